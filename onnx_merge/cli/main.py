"""The command line: `python -m onnx_merge IN OUT [options]`, and the subcommands ``inspect``, ``sweep`` and ``verify``.

This module selects the command. It turns every exception into an exit code and a message of one line.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnx_merge.cli import compress, inspect, sweep, verify
from onnx_merge.cli.console import print_error
from onnx_merge.errors import OnnxMergeError, UserCodeError, internal_error
from onnx_merge.io.written_files import recording

COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    inspect.INSPECT: inspect.main,
    sweep.SWEEP: sweep.main,
    verify.VERIFY: verify.main,
}
"""Subcommands by the first argument. A file of the same name can be given as ``./inspect``."""
INTERRUPTED = 130


class _Terminated(KeyboardInterrupt):
    """The process got a signal to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` by default) and return the exit code. Nothing is raised."""
    if argv is None and not sys.warnoptions:  # users cannot act on warnings of libraries
        warnings.simplefilter("ignore")
    if argv is None:
        _end_in_order()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(arguments[0], compress.main) if arguments else compress.main
    with recording() as written:
        return _run(command, arguments, written)


def _run(command: Callable[[list[str]], int], arguments: list[str], written: Sequence[Path]) -> int:
    try:
        code = command(arguments)
    except SystemExit as leaving:  # raised by --help and --version
        code = leaving.code if isinstance(leaving.code, int) else 0
    except _Terminated as ending:
        code = print_error(f"terminated: {_remains(written)}", 128 + int(ending.args[0]))
    except KeyboardInterrupt:
        code = print_error(f"interrupted: {_remains(written)}", INTERRUPTED)
    except OnnxMergeError as error:
        if {"-v", "--verbose"} & set(arguments) and isinstance(error, UserCodeError) and error.__cause__ is not None:
            import traceback

            traceback.print_exception(error.__cause__)
        code = print_error(error.message, error.exit_code)
    except MemoryError:
        code = print_error("not enough memory", 1)
    except Exception as error:
        if {"-v", "--verbose"} & set(arguments):
            import traceback

            traceback.print_exc()
        code = print_error(internal_error(error), 1)
    return code


def _end_in_order() -> None:
    """Let signals with which systems end processes remove temporary files, as an interrupt does."""

    def end(number: int, _: object) -> None:
        raise _Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # Where it is not the default, nohup or the caller wants something else.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _remains(written: Sequence[Path]) -> str:
    """What an interrupted command left."""
    if not written:
        return "nothing was written"
    others = f" and {len(written) - 1} more before it" if len(written) > 1 else ""
    return f"{written[-1]}{others} {'were' if others else 'was'} written, whole"
