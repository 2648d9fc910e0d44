"""The command `onnx-merge sweep MODEL -o FOLDER [options]`. Only modules that `--help` needs are imported at the
top."""

from __future__ import annotations

import sys
from pathlib import Path

from onnx_merge.cli.arguments import CONFIG, OPTIONS, Parser, add_groups, split_arguments, take_options
from onnx_merge.cli.console import PROG, print_out
from onnx_merge.cli.progress import progress_shown
from onnx_merge.config.command_options import NOT_OF_SWEEP, SIZES, ConfigOptions, SweepOptions
from onnx_merge.config.definition import HOW_MUCH, options_of
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError

SWEEP = "sweep"
DESCRIPTION = """\
Compress an ONNX model to several sizes and compare them. What is found out
about the model is found out once, for all of them.

  MODEL   an ONNX file; it is never changed
  FOLDER  made if need be; there go
          keep-0.30.onnx ...  what a run with --keep 0.30 writes, and so on
          sweep.csv           a line for every size
          sweep.json          the same, and more of it
          sweep.png           accuracy over MACs, bytes and latency

The knee is the size from which on each MAC saved costs more than before: of
the sizes that no other beats in both MACs and accuracy, the one farthest
above the straight line between the first and the last of them (Satopaa et
al., "Finding a Kneedle in a Haystack", 2011). With --metric, that takes the
place of accuracy. Accuracy is the share of samples that keep their class
without --labels; where a model is no classifier, noise over signal in its
outputs counts, and less is better. Each size has its verdict: good, bad or
untested, which rejects none.
"""
EPILOG = """\
example:
  onnx-merge sweep model.onnx -o sizes/ --from 0.3 --to 0.9 --labels test.npz

Latency is measured with --benchmark only, on this machine, after all models
are there. --calib, --metric: see onnx-merge --help.

exit codes:
  0  done; sizes that failed say why
  1  failed
  2  usage, unreadable input, or an original that cannot be run
  4  no size gave a model that is as it should be
"""


def main(arguments: list[str]) -> int:
    """Run the command line ``arguments``, whose first one is the subcommand, and return the exit code."""
    given, files = split_arguments(_parser(), arguments[1:])
    own, config = take_options(SweepOptions, given), take_options(ConfigOptions, given).config
    if not files:
        hint = " before --exclude, which takes all words after it" if "exclude" in given else ""
        raise UsageError(f"name the model{hint}: {PROG} {SWEEP} MODEL -o FOLDER; see {PROG} {SWEEP} --help")
    if len(files) > 1:
        raise UsageError(f"{SWEEP} takes one model, but {files[1]!r} was given too: is it the folder? name it with -o")
    if own.output is None:
        raise UsageError(f"name the folder for the models: {PROG} {SWEEP} {files[0]} -o FOLDER")
    amount = {**given, "keep": 1.0}  # `shares` checks the shares that are tried
    options = Options.make(amount) if config is None else Options.from_toml(config, amount)
    with progress_shown(options.quiet) as progress:
        from onnx_merge.sweeping.executors import executor
        from onnx_merge.sweeping.files import shares
        from onnx_merge.sweeping.sweep import no_success, run

        found = run(
            files[0],
            own.output,
            options,
            shares(own.start, own.stop, own.steps),
            executor(own.jobs, own.scheduler),
            progress=progress,
            argv=arguments,
            protected=[Path(config)] if config else [],
        )
    code = 0
    if not options.quiet and sys.stdout is not None:
        from onnx_merge.sweeping.table import render

        code = print_out(render(found, sys.stdout, options.verbose))
    if not any(point.status == "done" for point in found.points):
        raise no_success(found)
    return code


def _parser() -> Parser:
    parser = Parser(
        prog=f"{PROG} {SWEEP}",
        usage=f"{PROG} {SWEEP} MODEL -o FOLDER [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        help_position=31,
    )
    shared = [option for option in OPTIONS if option.field not in NOT_OF_SWEEP]
    add_groups(parser, (*options_of(SweepOptions), *shared, *CONFIG), {HOW_MUCH: SIZES})
    return parser
