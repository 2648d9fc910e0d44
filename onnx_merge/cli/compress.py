"""The command `onnx-merge IN OUT [options]`. Only modules that `--help` needs are imported at the top."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from onnx_merge.cli.arguments import CONFIG, OPTIONS, Parser, add_groups, split_arguments
from onnx_merge.cli.console import PROG, print_error, print_out, tell
from onnx_merge.cli.progress import progress_shown
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import UsageError

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
EPILOG = """\
example:
  onnx-merge model.onnx smaller.onnx --keep 0.6 --labels test.npz

calibration samples (--calib):
  FILE.npz, FILE.npy  arrays under the names of the inputs; one for one input
  FOLDER              of such files, or of images (jpg, png, bmp, webp)
  FILE.py:FUNCTION    a function, which is run: returns or yields arrays
  synthetic, none     made-up ones (what --method reconstruct does without
                      others), or none at all
  256 are taken, and 128 more are held out, or an eighth of fewer (16 at
  least): outputs are compared on them, and nothing is fitted to them. Where
  yours are fewer than 64, or a layer has more inputs than they show places,
  twice as many serve, or their mirror images too, or up to 1,024 made-up
  ones, if the model is small; with --calib-samples no more than that.

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
     metric below --min-metric, or the verdict is bad on your own samples
     (unless --no-gate, --max-drop or --min-metric says what may be lost): the
     model is written under OUT's name with .rejected.onnx
  4  nothing could be removed, or the target is out of reach; nothing written
  5  the result is not sound, or its outputs could not be compared with the
     original's (see --unverified); nothing written
  130, or 128 + N: interrupted, or ended by signal N; no file is half written
"""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit code.

    Raises
    ------
    OnnxMergeError: the run failed; the class of the error determines the exit code.
    """
    files, options, config = parse(arguments)
    if not files or (len(files) < 2 and not options.dry_run):
        missing = "the output file" if files else "the input and the output file"
        hint = " before --exclude, which takes all words after it" if options.exclude else ""
        raise UsageError(f"name {missing}{hint}: {PROG} IN OUT --keep 0.6; see --help")
    if options.html_samples and options.html is None:
        raise UsageError("html-samples is for the page: give --html PAGE too")
    with progress_shown(options.quiet) as progress:
        from onnx_merge.compression.optimize import run
        from onnx_merge.io.scratch_space import weights_in_files
        from passes.numerics.jit import compiled_before

        if not compiled_before():
            tell("the kernels are compiled: the first run takes some seconds longer", options.quiet)
        with weights_in_files():
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
        return print_error(f"{outcome.failure.message}{where}", outcome.failure.exit_code)
    return code


def parse(arguments: list[str]) -> tuple[list[str], Options, Path | None]:
    """Return the file names, the options, and the configuration file.

    Raises
    ------
    UsageError, InputError: the arguments are invalid, or the configuration file cannot be read.
    """
    given, files = split_arguments(parser(), arguments)
    if len(files) > 2:
        several = "; an option for several inputs is repeated: --input-shape A:1,2 --input-shape B:1,3"
        hint = several if re.fullmatch(r"[^/\\.]+[:=]\S+", files[2]) else "; see --help"
        raise UsageError(f"there is one input and one output, but {files[2]!r} was given too{hint}")
    config = given.pop("config", None)
    options = Options.make(given) if config is None else Options.from_toml(config, given)
    return files, options, config and Path(config)


def parser() -> Parser:
    """Return the parser of all options of a compression."""
    parser = Parser(
        prog=PROG,
        usage=f"{PROG} IN OUT [--keep R | --target-macs R | ...] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        help_position=31,
    )
    files = add_groups(parser, (*OPTIONS, *CONFIG))
    files.add_argument("--version", action="version", version=f"{PROG} {__version__}", help="print the version")
    return parser
