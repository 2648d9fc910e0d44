"""The command `onnx-merge inspect MODEL [options]`. Only modules that `--help` needs are imported at the top."""

from __future__ import annotations

import sys

from onnx_merge.cli.arguments import Parser, add_flat, split_arguments, take_options
from onnx_merge.cli.console import PROG, print_out
from onnx_merge.cli.progress import progress_shown
from onnx_merge.config.command_options import OF_INSPECT, InspectOptions
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError

INSPECT = "inspect"
DESCRIPTION = """\
Show the channel groups of an ONNX model: what of the model depends on each,
whether its channels can be removed and merged, and if not, why. Nothing is
changed.
"""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments``, whose first one is the subcommand, and return the exit code.

    Raises
    ------
    OnnxMergeError: the run failed; the class of the error determines the exit code.
    """
    found, files = split_arguments(_parser(), arguments[1:])
    own = take_options(InspectOptions, found)
    report, group = own.json, own.group
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


def _parser() -> Parser:
    parser = Parser(
        prog=f"{PROG} {INSPECT}",
        usage=f"{PROG} {INSPECT} MODEL [options]",
        description=DESCRIPTION,
        help_position=30,
    )
    add_flat(parser, InspectOptions, OF_INSPECT)
    return parser
