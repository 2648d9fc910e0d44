"""Writes results and error messages to standard output and standard error."""

from __future__ import annotations

import os
import sys

from onnx_merge.io.plain_text import plain

PROG = "onnx-merge"


def print_error(message: str, code: int) -> int:
    """Write an error message to standard error and return the exit ``code``."""
    if sys.stderr is not None:
        print(f"{PROG}: error: {plain(message)}", file=sys.stderr)
    return code


def tell(message: str, quiet: bool) -> None:
    """Write a message for a person who waits: to standard error, if that is a terminal."""
    if not quiet and sys.stderr is not None and sys.stderr.isatty():
        print(f"{PROG}: {message}", file=sys.stderr)


def print_out(text: str) -> int:
    """Write ``text`` to standard output and flush it. Return the exit code: 1 if that fails."""
    if sys.stdout is None:  # the parent process closed it
        return 0
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            return print_error(f"standard output cannot be written to: {error.strerror}", 1)
        # As in `| head`: the reader closed the pipe, and the work is done.
    return 0
