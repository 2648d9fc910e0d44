"""Fits tables with long texts to the width of the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.report.table import GAP, plain_table, shortened, without_repeats

Columns = dict[str, list[str]]
"""Column title -> cells."""
NUMBERS = ("size", "MACs", "params", "groups", "nodes", "axis")
"""Titles of columns that are never shortened."""
MIN_WIDTHS = {"group": 25, "status": 46, "coupled": 20, "consumers": 20, "node": 25, "tensor": 20}
"""Minimum width of each text column, in characters. Other columns always get the width of their content."""
MIN_USEFUL_WIDTH = 8
"""Width in characters below which a column is useless."""


def fitted_table(
    forms: Sequence[Columns], width: int, caption: str = "", styles: Sequence[str] | None = None
) -> Iterator[RenderableType]:
    """Yield a table no wider than ``width``, from the first of several forms of the same columns that fits.

    If no form fits, the last text columns are dropped until the others have their minimum width, and their texts are
    shortened to it. A line below the table says so. Empty columns are left out.
    """
    columns = shown = {title: cells for title, cells in forms[0].items() if any(cells)}
    for form in forms if _total(shown) > width else ():
        shown = {title: [without_repeats(cell) for cell in form[title]] for title in columns}
        if _total(shown) <= width:
            break
    left_out: list[str] = []
    while _total(shown, MIN_WIDTHS) > width and len(_texts(shown)) > 2:
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


def _total(columns: Columns, limits: Mapping[str, int] | None = None) -> int:
    """Return the width of the table. ``limits``: upper limits of the widths of some columns."""
    needed = _needed(columns)
    return sum(min(n, (limits or {}).get(title, n)) for title, n in needed.items()) + GAP * (len(columns) - 1)


def _widths(columns: Columns, width: int) -> dict[str, int]:
    """Return the width of each column: its minimum, then equal shares of the remaining space up to its content's
    width."""
    needed = _needed(columns)
    widths = {title: min(n, MIN_WIDTHS.get(title, n)) for title, n in needed.items()}
    spare = width - _total(columns, MIN_WIDTHS)
    while spare < 0 and any(
        widths[title] > MIN_USEFUL_WIDTH for title in _texts(columns)
    ):  # the screen is too narrow for a readable table
        widths[max(_texts(columns), key=lambda title: widths[title])] -= 1
        spare += 1
    while spare > 0 and (short := [title for title in columns if widths[title] < needed[title]]):
        for title in short[:spare]:
            widths[title] += 1
            spare -= 1
    return widths


def squeezed(text: str, width: int) -> str:
    """Shorten ``text`` to at most ``width`` characters.

    Folders of names become initials, from the left, as many as necessary; then the middle is cut.
    ``/encoder/layer.0/self_attention/query/MatMul`` becomes ``/e/l.0/sa/query/MatMul``.
    """
    parts = re.split(r"(?<=/)", text)
    for position, part in enumerate(parts):
        if len(text) <= width:
            break
        if part.endswith("/"):
            parts[position] = re.sub(r"([A-Za-z])[A-Za-z]*_*", r"\1", part)
            text = "".join(parts)
    return shortened(text, width)
