"""Tables of long texts, made to fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.report.table import GAP, plain_table, shortened, without_repeats

Columns = dict[str, list[str]]
"""Cells by the title of their column."""
NUMBERS = ("size", "MACs", "params", "groups", "nodes", "axis")
"""Titles of columns that are never shortened."""
LEAST = {"group": 25, "status": 46, "coupled": 20, "consumers": 20, "node": 25, "tensor": 20}
"""Characters that the texts of a column can do with; of other columns, all they have."""
STUMP = 8
"""Characters without which it says nothing."""


def fitted_table(
    forms: Sequence[Columns], width: int, caption: str = "", styles: Sequence[str] | None = None
) -> Iterator[RenderableType]:
    """A table no wider than ``width``, from the first of several forms of the same columns that fits.

    If none does, the last columns of texts go until those left have what they can do with, and are shortened to that.
    A line below says so. Empty columns are left out.
    """
    columns = shown = {title: cells for title, cells in forms[0].items() if any(cells)}
    for form in forms if _total(shown) > width else ():
        shown = {title: [without_repeats(cell) for cell in form[title]] for title in columns}
        if _total(shown) <= width:
            break
    left_out: list[str] = []
    while _total(shown, LEAST) > width and len(_texts(shown)) > 2:
        left_out.insert(0, _texts(shown)[-1])
        del shown[left_out[0]]
    widths = _widths(shown, width)
    shown = {title: [squeezed(cell, widths[title]) for cell in cells] for title, cells in shown.items()}
    table = plain_table()
    for title in shown:
        table.add_column(title, justify="right" if title in NUMBERS else "left", no_wrap=True, overflow="crop")
    for row, style in zip(zip(*shown.values(), strict=True), styles or repeat(""), strict=False):
        table.add_row(*row, style=style)
    yield table
    if caption:
        yield Text(f"({caption})", style="dim")
    if left_out or shown != columns:
        without = f", without {' and '.join(left_out)}" if left_out else ""
        yield Text(f"(shortened to fit{without}; -v shows all)", style="dim")


def _texts(columns: Columns) -> list[str]:
    return [title for title in columns if title not in NUMBERS]


def _needed(columns: Columns) -> dict[str, int]:
    return {title: max(len(title), *map(len, cells)) for title, cells in columns.items()}


def _total(columns: Columns, most: Mapping[str, int] | None = None) -> int:
    """Width of the table; ``most``: of some columns, however much they need."""
    needed = _needed(columns)
    return sum(min(n, (most or {}).get(title, n)) for title, n in needed.items()) + GAP * (len(columns) - 1)


def _widths(columns: Columns, width: int) -> dict[str, int]:
    """What each column gets: the least that it can do with, then equal parts of the rest until it has what it needs."""
    needed = _needed(columns)
    widths = {title: min(n, LEAST.get(title, n)) for title, n in needed.items()}
    spare = width - _total(columns, LEAST)
    while spare < 0 and any(widths[title] > STUMP for title in _texts(columns)):  # narrower than is good for tables
        widths[max(_texts(columns), key=lambda title: widths[title])] -= 1
        spare += 1
    while spare > 0 and (short := [title for title in columns if widths[title] < needed[title]]):
        for title in short[:spare]:
            widths[title] += 1
            spare -= 1
    return widths


def squeezed(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters: the folders of names become initials, from the left, as far as need be;
    then the middle goes. ``/encoder/layer.0/self_attention/query/MatMul`` is ``/e/l.0/sa/query/MatMul``."""
    parts = re.split(r"(?<=/)", text)
    for position, part in enumerate(parts):
        if len(text) <= width:
            break
        if part.endswith("/"):
            parts[position] = re.sub(r"([A-Za-z])[A-Za-z]*_*", r"\1", part)
            text = "".join(parts)
    return shortened(text, width)
