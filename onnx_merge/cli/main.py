"""The command line: `python -m onnx_merge IN OUT [options]`, and the subcommands ``inspect``, ``sweep`` and ``verify``.

Only what `--help` needs is imported at the top.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from onnx_merge.config.option_parsing import CHOICES, did_you_mean
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import OnnxMergeError, UsageError, UserCodeError, internal_error

PROG = "onnx-merge"
INSPECT = "inspect"
"""As the first argument, the subcommand; a file of that name is ``./inspect``."""
SWEEP = "sweep"
"""The other one."""
VERIFY = "verify"
"""And one more."""
INTERRUPTED = 130
DESCRIPTION = """\
Make an ONNX model smaller and faster without training: channels are removed,
and what they carried is merged into those that stay.

  IN    an ONNX file; it is never changed
  OUT   the file to write, whole or not at all

Where nobody says how much may go, only what costs nothing does (--lossless),
or, with samples of yours (--calib, --labels), as much as --max-drop 1 allows.

To see what could be removed, and what cannot and why: onnx-merge inspect IN
Several sizes, and how they compare: onnx-merge sweep IN -o FOLDER
Whether OUT keeps what it says of itself: onnx-merge verify OUT --against IN
"""
INSPECT_DESCRIPTION = """\
Show the channel groups of an ONNX model: what of the model depends on each,
whether its channels can be removed and merged, and if not, why. Nothing is
changed.
"""
EPILOG = """\
example:
  onnx-merge model.onnx smaller.onnx --keep 0.6 --labels test.npz

calibration samples (--calib):
  FILE.npz, FILE.npy  arrays under the names of the inputs; one for one input
  FOLDER              of such files, or of images (jpg, png, bmp, webp)
  FILE.py:FUNCTION    a function, which is run: returns or yields arrays
  synthetic, none     made-up ones (what --method reconstruct does without
                      others), or none at all
  256 are taken, and an eighth (16 to 256) is held out: outputs are compared
  on it, and nothing is fitted to it. Where a layer has more inputs than they
  show places, twice as many serve, or their mirror images too, or up to 1,024
  made-up ones, if the model is small; with --calib-samples no more than that.

measures (--metric), of samples with --labels or --calib; higher is better:
  accuracy, top5      percent of the samples, by class numbers in --labels
  neg-cross-entropy   of the same, from logits or probabilities
  psnr, r2            against labels of an output's shape, or without labels
                      against the original's outputs
  FILE.py:FUNCTION    FUNCTION(predict, samples, labels), which returns a number
  --max-drop is in its units then.

exit codes:
  0  done
  1  failed
  2  usage, unreadable input, an original that cannot be run, or a function of
     yours that failed
  3  outputs farther off than a limit allows (--max-nsr, --min-top1 ...), or the
     metric below --min-metric, or the verdict is bad on your own samples and
     there is no --no-gate: the model is written under OUT's name with
     .rejected.onnx
  4  nothing could be removed, or the target is out of reach; nothing written
  5  the result is not sound, or its outputs could not be compared with the
     original's (see --unverified); nothing written
"""


class Parser(argparse.ArgumentParser):
    """Raises instead of printing the usage and leaving. ``help_position``: column of the help texts, at most."""

    def __init__(
        self,
        prog: str | None = None,
        usage: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        help_position: int = 30,
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=help_position),
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            add_help=False,
        )

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the arguments."""
        raise UsageError(re.sub(r"^argument (-\w/)?(\S+): ", r"\2: ", message) + "; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own by default) and return the exit code. Nothing is raised."""
    if argv is None and not sys.warnoptions:  # a user can do nothing about what libraries warn of
        warnings.simplefilter("ignore")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _main(arguments)
    except SystemExit as leaving:  # after --help and --version
        code = leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED)
    except OnnxMergeError as error:
        if {"-v", "--verbose"} & set(arguments) and isinstance(error, UserCodeError) and error.__cause__ is not None:
            import traceback

            traceback.print_exception(error.__cause__)
        code = _fail(error.message, error.exit_code)
    except MemoryError:
        code = _fail("not enough memory", 1)
    except Exception as error:
        if {"-v", "--verbose"} & set(arguments):
            import traceback

            traceback.print_exc()
        code = _fail(internal_error(error), 1)
    return print_out("") or code  # what argparse printed has not been flushed


def _main(arguments: list[str]) -> int:
    if arguments[:1] == [INSPECT]:
        return _inspect(arguments[1:])
    if arguments[:1] == [SWEEP]:
        from onnx_merge.cli.sweep import main as sweep

        return sweep(arguments)
    if arguments[:1] == [VERIFY]:
        from onnx_merge.cli.verify import main as verify

        return verify(arguments)
    files, options, config = parse(arguments)
    if not files or (len(files) < 2 and not options.dry_run):
        missing = "the output file" if files else "the input and the output file"
        hint = " before --exclude, which takes all words after it" if options.exclude else ""
        raise UsageError(f"name {missing}{hint}: {PROG} IN OUT --keep 0.6; see --help")
    with progress_shown(options.quiet) as progress:
        from onnx_merge.compression.optimize import run

        outcome = run(
            files[0],
            files[1] if len(files) > 1 else None,
            options,
            progress=progress,
            argv=arguments,
            protected=[config] if config else [],
        )
    code = 0
    if not options.quiet and sys.stdout is not None:
        from onnx_merge.report.table import render

        code = print_out(render(outcome.result, sys.stdout, options.verbose))
    if outcome.failure is not None:
        where = f": see {outcome.result.output.path}" if outcome.result.output.path else ""
        return _fail(f"{outcome.failure.message}{where}", outcome.failure.exit_code)
    return code


def _inspect(arguments: list[str]) -> int:
    found, files = split(_inspect_parser(), arguments)
    report = found.pop("json", None)
    group = found.pop("group", None)
    options = Options.make({**found, "report": None if report == "-" else report})
    if not files:
        hint = "" if report in (None, "-") else ", before --json, which takes the word after it"
        raise UsageError(f"name the model{hint}: {PROG} {INSPECT} MODEL; see {PROG} {INSPECT} --help")
    if len(files) > 1:
        raise UsageError(f"{INSPECT} shows one model, but {files[1]!r} was given too (a file {INSPECT} is ./{INSPECT})")
    with progress_shown(options.quiet) as progress:
        from onnx_merge.inspection.inspect import run

        inspection = run(files[0], options, group=group, progress=progress)
    if report == "-":
        return print_out(inspection.to_json())
    if options.quiet or sys.stdout is None:
        return 0
    from onnx_merge.inspection.table import render

    return print_out(render(inspection, sys.stdout, options.verbose, group))


def parse(arguments: list[str]) -> tuple[list[str], Options, Path | None]:
    """The file names, the options, and the configuration file.

    Raises
    ------
    UsageError, InputError: the arguments make no sense, or the configuration file cannot be read.
    """
    given, files = split(_parser(), arguments)
    if len(files) > 2:
        raise UsageError(f"there is one input and one output, but {files[2]!r} was given too; see --help")
    config = given.pop("config", None)
    options = Options.make(given) if config is None else Options.from_toml(config, given)
    return files, options, config and Path(config)


def split(parser: Parser, arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The options that ``parser`` knows, and the file names, which may stand anywhere."""
    # The file names are what is left over: argparse's own would miss an output that follows an option.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found, rest = parser.parse_known_args(_valueless(arguments[:end]))
    for word in rest:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            if name in _options(_parser()):  # of the two-path form, then
                word = parser.prog.removeprefix(f"{PROG} ")
                raise UsageError(f"{word} takes no {name}; see {parser.prog} --help (a file is ./{word})")
            raise UsageError(f"unknown option {name}{did_you_mean(name, _options(parser)) or '; see --help'}")
    return vars(found), rest + arguments[end + 1 :]


def _valueless(arguments: list[str]) -> list[str]:
    """``arguments`` in which ``--benchmark`` takes only numbers and no file name that follows it."""
    return [
        "--benchmark=auto" if word == "--benchmark" and not re.match(r"[\d,]+$", after) else word
        for word, after in zip(arguments, [*arguments[1:], ""], strict=False)
    ]


def _options(parser: Parser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _parser() -> Parser:
    parser = Parser(
        prog=PROG,
        usage=f"{PROG} IN OUT [--keep R | --target-macs R | ...] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        help_position=31,
    )
    amount = parser.add_argument_group("how much")
    amount.add_argument("--keep", type=float, metavar="R", help="share of the channels that every group keeps, 0 to 1")
    amount.add_argument("--target-macs", type=float, metavar="R", help="share of the MACs to leave, within 1%%")
    amount.add_argument("--target-params", type=float, metavar="R", help="share of the parameters to leave, within 1%%")
    amount.add_argument("--target-latency", type=float, metavar="R", help="share of the latency to leave, as measured")
    amount.add_argument("--max-drop", type=float, metavar="PCT", help="as small as loses no more points of accuracy")
    amount.add_argument("--confidence", type=float, metavar="P", help="promise --max-drop of other samples, e.g. 0.95")
    amount.add_argument("--lossless", action="store_true", help="remove only what costs nothing")
    add_limits(amount)
    add_ways(parser)
    files = parser.add_argument_group("files and messages")
    files.add_argument("--no-gate", dest="gate", action="store_false", help="write OUT though the verdict is bad")
    files.add_argument("--report", metavar="JSON", help="write all numbers to a file")
    files.add_argument("--dry-run", action="store_true", help="do everything but write the model")
    add_messages(files)
    files.add_argument("--version", action="version", version=f"{PROG} {__version__}", help="print the version")
    return parser


def add_limits(amount: argparse._ArgumentGroup) -> None:
    """Options that say where channels may go, and how they are spread."""
    amount.add_argument("--keep-layer", action="append", metavar="REGEX=R", help="another share for some layers")
    amount.add_argument("--exclude", action="extend", nargs="+", metavar="REGEX", help="layers to leave whole")
    amount.add_argument(
        "--exclude-inputs", action="extend", nargs="+", metavar="REGEX", help="layers whose inputs to leave whole"
    )
    amount.add_argument(
        "--no-coupled", dest="coupled", action="store_false", help="leave channels whole that several layers share"
    )
    amount.add_argument("--allocation", metavar=_choices("allocation"), help="how R is spread over the groups")
    amount.add_argument("--align", metavar="auto|N", help="channels that widths are multiples of (auto)")


def add_ways(parser: Parser) -> None:
    """The groups of options that say how channels go, and how results are checked."""
    how = parser.add_argument_group("how")
    how.add_argument("--method", metavar=_choices("method"), help="of removed channels (auto: reconstruct)")
    how.add_argument("--select", metavar="CRITERION", help=f"which channels stay: {', '.join(CHOICES['select'])} (l1)")
    how.add_argument("--lambda", type=float, metavar="X", help="weight of cosine distance against bias distance (0.85)")
    how.add_argument("--threshold", type=float, metavar="X", help="smallest cosine at which channels merge (0.1)")
    how.add_argument(
        "--input-shape", action="append", metavar="NAME:SIZES", help="to sample and check at, e.g. input:1,3,224,224"
    )
    how.add_argument("--fix-shape", action="append", metavar="NAME:SIZES", help="declare the shape of a dynamic input")
    how.add_argument(
        "--fix-input", action="append", metavar="NAME=VALUE", help="make an input a constant: numbers, true, FILE.npy"
    )
    check = parser.add_argument_group("checks")
    check.add_argument("--labels", metavar="NPZ", help="samples with labels: measure accuracy")
    check.add_argument("--calib", metavar="WHAT", help="samples without labels: see below")
    check.add_argument("--check-n", type=int, metavar="N", help="samples to compare outputs on (256; 64 made-up)")
    check.add_argument("--min-cosine", type=float, metavar="X", help="fail if outputs are farther off, -1 to 1")
    check.add_argument("--min-top1", type=float, metavar="X", help="fail if fewer samples keep their class, 0 to 1")
    check.add_argument("--metric", metavar="WHAT", help="judge by this measure: see below")
    check.add_argument("--min-metric", type=float, metavar="X", help="fail if the result's metric is below it")
    check.add_argument("--max-nsr", type=float, metavar="X", help="fail if an output has more noise over signal")
    check.add_argument("--max-kl", type=float, metavar="X", help="fail if classes diverge by more nats")
    check.add_argument("--unverified", action="store_true", help="write a result although outputs cannot be compared")
    check.add_argument("--provider", metavar=_choices("provider"), help="where models run (auto)")
    check.add_argument("--custom-ops", action="append", metavar="LIBRARY", help="operators that onnxruntime lacks")
    check.add_argument("--calib-samples", type=int, metavar="N", help="samples to calibrate on (256; see below)")
    check.add_argument("--mean", metavar="A,B,C", help="of image files, taken off pixels in 0..1 (0)")
    check.add_argument("--std", metavar="A,B,C", help="of image files: divides pixels after that (1)")
    check.add_argument("--layout", metavar=_choices("layout"), help="where a model has its images' channels (auto)")
    check.add_argument("--memory-limit", metavar="SIZE", help="beside some 500 MB of libraries (2GB)")
    check.add_argument("--seed", type=int, metavar="N", help="of random samples (0)")
    check.add_argument(
        "--benchmark", nargs="?", const="auto", metavar="N,N", help="measure latency, at these batch sizes (1)"
    )
    check.add_argument("--threads", type=int, metavar="N", help="of --benchmark (onnxruntime's choice)")


def add_messages(files: argparse._ArgumentGroup) -> None:
    """Options of files and messages that every command that compresses has."""
    files.add_argument("--config", metavar="TOML", help="read options from a file; those given here win")
    files.add_argument("--force", action="store_true", help="replace files that exist")
    files.add_argument(
        "--no-provenance", dest="provenance", action="store_false", help="leave no record of the run in the model"
    )
    files.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    files.add_argument("-v", "--verbose", action="store_true", help="print more")
    files.add_argument("-h", "--help", action="help", help="print this")


def _inspect_parser() -> Parser:
    parser = Parser(
        prog=f"{PROG} {INSPECT}",
        usage=f"{PROG} {INSPECT} MODEL [options]",
        description=INSPECT_DESCRIPTION,
        help_position=30,
    )
    add = parser.add_argument
    add("--group", metavar="REGEX", help="all members of groups whose name or a producer's matches")
    add("--json", nargs="?", const="-", metavar="FILE", help="all of it as JSON, to FILE or standard output")
    add("--input-shape", action="append", metavar="NAME:SIZES", help="to look at, e.g. input:1,3,224,224")
    add("--fix-shape", action="append", metavar="NAME:SIZES", help="declare the shape of a dynamic input")
    add("--fix-input", action="append", metavar="NAME=VALUE", help="make an input a constant, e.g. rate=16000")
    add("--custom-ops", action="append", metavar="LIBRARY", help="operators that onnxruntime lacks")
    add("--force", action="store_true", help="replace FILE if it exists")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")
    add("-v", "--verbose", action="store_true", help="shorten nothing; tracebacks too")
    add("-h", "--help", action="help", help="print this")
    return parser


def _choices(name: str) -> str:
    return "|".join(CHOICES[name])


@contextlib.contextmanager
def progress_shown(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows the stage on standard error, if that is a terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status("start") as status:
        yield status.update


def _fail(message: str, code: int) -> int:
    if sys.stderr is not None:
        print(f"{PROG}: error: {message}", file=sys.stderr)
    return code


def print_out(text: str) -> int:
    """Write ``text`` to standard output at once; the exit code, 1 if that fails."""
    if sys.stdout is None:  # closed by whoever started us
        return 0
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            return _fail(f"standard output cannot be written to: {error.strerror}", 1)
        # `| head`: the reader has seen enough, and the work is done.
    return 0
