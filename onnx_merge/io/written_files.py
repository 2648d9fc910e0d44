"""Keeps account of the files that a command has written, for a message when it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_written: ContextVar[list[Path] | None] = ContextVar("written", default=None)


@contextmanager
def recording() -> Iterator[list[Path]]:
    """The files that are written in the block, in order; the list grows as it goes on."""
    files: list[Path] = []
    token = _written.set(files)
    try:
        yield files
    finally:
        _written.reset(token)


def record(path: Path) -> None:
    """Note that a whole file is now at ``path``."""
    files = _written.get()
    if files is not None:
        files.append(path)
