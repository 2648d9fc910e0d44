"""The command `onnx-merge verify OUT --against IN [options]`. Only modules that `--help` needs are imported at the
top."""

from __future__ import annotations

import sys

from onnx_merge.cli.arguments import Parser, add_flat, split_arguments, take_options
from onnx_merge.cli.console import PROG, print_out
from onnx_merge.cli.progress import progress_shown
from onnx_merge.config.command_options import OF_VERIFY, VerifyOptions
from onnx_merge.errors import FidelityError, UsageError

VERIFY = "verify"
DESCRIPTION = """\
Measure again what a compressed ONNX model says of itself: how far its outputs
are from those of the model it was made from. Nothing is changed.

  OUT   a model that onnx-merge wrote, as it is or converted since
  IN    the model that it was made from

On the same samples, by the same division of them, only rounding may differ.
On any others, chance may too: what is found may be worse than what is stated
by no more than both samples explain. Without samples, those are made up again
that the file speaks of.
"""
EPILOG = """\
example:
  onnx-merge verify smaller.onnx --against model.onnx --labels test.npz

--calib and its kind: see onnx-merge --help. Options that the file records,
such as --seed and --mean, need not be given again.

exit codes:
  0  the file keeps what it says
  1  failed
  2  usage, unreadable input, or a file that says nothing
  3  it does not, or IN is not the model that it was made from
"""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments``, whose first one is the subcommand, and return the exit code.

    Raises
    ------
    FidelityError: the file does not keep the statements in its metadata.
    """
    given, files = split_arguments(_parser(), arguments[1:])
    own = take_options(VerifyOptions, given)
    report, against = own.json, own.against
    if not files:
        hint = "" if report in (None, "-") else ", before --json, which takes the word after it"
        raise UsageError(f"name the model{hint}: {PROG} {VERIFY} OUT --against IN; see {PROG} {VERIFY} --help")
    if len(files) > 1:
        raise UsageError(f"{VERIFY} takes one model, but {files[1]!r} was given too: name the original with --against")
    if against is None:
        raise UsageError(f"name the model that it was made from: {PROG} {VERIFY} {files[0]} --against IN")
    quiet, verbose = bool(given.get("quiet")), bool(given.get("verbose"))
    with progress_shown(quiet or report == "-") as progress:
        from onnx_merge.verification.verify import run

        asked = {name: value for name, value in given.items() if name not in ("quiet", "verbose")}
        asked["report"] = None if report == "-" else report
        found = run(files[0], against, asked, progress=progress)
    code = 0
    if report == "-":
        code = print_out(found.to_json())
    elif not quiet and sys.stdout is not None:
        from onnx_merge.verification.table import render

        code = print_out(render(found, sys.stdout, verbose))
    if not found.keeps:
        raise FidelityError(f"{files[0]} does not keep what it says: {found.reason}")
    return code


def _parser() -> Parser:
    parser = Parser(
        prog=f"{PROG} {VERIFY}",
        usage=f"{PROG} {VERIFY} OUT --against IN [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        help_position=30,
    )
    add_flat(parser, VerifyOptions, OF_VERIFY)
    return parser
