"""Renders tables and sentences for a terminal or a file."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from onnx_merge.io.plain_text import plain

FILE_WIDTH = 120
"""Width in columns if the output is not a terminal; fixed, so that the output does not depend on who runs it."""
UNCUT_WIDTH = 10_000
"""Width in columns of tables that are not cut."""


@dataclass(frozen=True)
class _Plain:
    """``part`` without control codes, which names in a model may hold."""

    part: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.part, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def screen_width(stream: TextIO) -> int:
    """Return the width of the terminal in columns, or `FILE_WIDTH` if the stream is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else FILE_WIDTH


def printed(parts: Iterable[RenderableType], stream: TextIO, verbose: bool = False) -> str:
    """Render ``parts`` to the screen's width, without colours if it is no terminal. ``verbose``: tables are not cut."""
    terminal, screen = stream.isatty(), screen_width(stream)
    # Rendered to memory first, so that a broken pipe or a narrow encoding is met in one place only, by the caller.
    sink = io.TextIOWrapper(io.BytesIO(), stream.encoding or "utf-8", "backslashreplace", newline="")
    console = Console(
        file=sink,
        force_terminal=terminal,
        no_color=None if terminal else True,
        width=UNCUT_WIDTH if verbose else screen,
        height=25,  # without a height, rich ignores the width on a dumb terminal
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    for part in parts:
        if isinstance(part, Text) and terminal:
            console.print(_Plain(part), width=screen)
        else:  # in files, sentences are not wrapped
            console.print(_Plain(part), soft_wrap=isinstance(part, Text))
    sink.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in sink.read().splitlines())
