"""Shows on a terminal what is being done: the stage, the group or layer, and the time that the stage has left."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from passes.interface.steps import listening

PATIENCE = 2.0
"""Seconds into a stage before which no time is estimated."""


@dataclass
class StageProgress:
    """The line of progress. ``clock``: seconds from any start."""

    clock: Callable[[], float] = time.monotonic
    stage: str = "start"
    _item: str = ""
    _done: int = 0
    _total: int = 0
    _start: float = field(default=0.0)

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self.stage, self._item, self._done, self._total = stage, "", 0, 0

    def step(self, item: str, done: int, total: int) -> None:
        """Item number ``done`` of ``total``, counted from 0, begins in this stage."""
        if done == 0 or total != self._total:
            self._start = self.clock()
        self._item, self._done, self._total = item, done, total

    def line(self, width: int) -> str:
        """What is being done, in at most ``width`` columns; a long name is cut in front."""
        if not self._total:
            return _cut(self.stage, width)
        from rich.cells import cell_len  # only here: `--help` should not wait for it

        ends = [f"{self.stage} {self._done + 1} of {self._total}", *self._left()]
        room = width - cell_len("  ".join([*ends, ""]))
        name = _cut(self._item, room) if room > 8 else ""
        return _cut("  ".join([ends[0], *([name] if name else []), *ends[1:]]), width)

    def _left(self) -> list[str]:
        elapsed = self.clock() - self._start
        if not self._done or elapsed < PATIENCE:
            return []
        seconds = elapsed / self._done * (self._total - self._done)
        return [f"about {_duration(seconds)} left"]


@contextlib.contextmanager
def progress_shown(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show the current stage on standard error, if that is a terminal that can rewrite a line.

    Yields the function to call with the name of each stage.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.text import Text

    console, shown = Console(stderr=True, highlight=False), StageProgress()
    with console.status("") as status:

        def update() -> None:
            status.update(Text(shown.line(max(10, console.width - 3)), no_wrap=True))

        def begin(stage: str) -> None:
            shown.begin(stage)
            update()

        def step(item: str, done: int, total: int) -> None:
            shown.step(item, done, total)
            update()

        begin("start")
        with listening(step):
            yield begin


def _cut(text: str, width: int) -> str:
    """The end of ``text`` in at most ``width`` columns, since names of layers begin alike."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - 2 and text:
        text = text[1:]
    return f"..{text}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
