"""Formats the findings of a verification as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.report.console import printed, screen_width
from onnx_merge.report.table import GAP, plain_table, shortened
from onnx_merge.verification.findings import Check, Verification

MIN_NAME_WIDTH = 16
"""Minimum width of the column of quantities, in characters."""
INTERVALS_WIDTH = 100
"""Screen width in columns from which on intervals are shown."""


def render(found: Verification, stream: TextIO, verbose: bool = False) -> str:
    """Render the table for ``stream``; see `onnx_merge.report.console.printed`."""
    return printed(_parts(found, screen_width(stream), verbose), stream, verbose)


def _parts(found: Verification, width: int, verbose: bool) -> Iterator[RenderableType]:
    for note in found.notes:
        yield Text(f"note: {note}", style="yellow")
    table = plain_table()
    table.add_column("", no_wrap=True, overflow="crop")
    for title in ("stated", "found", "allowed"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("keeps", no_wrap=True)
    rows = [_numbers(check, verbose or width >= INTERVALS_WIDTH) for check in found.checks]
    taken = sum(max(map(len, column)) for column in zip(*rows, strict=True)) + len("keeps") + 4 * GAP
    for check, numbers in zip(found.checks, rows, strict=True):
        style = "" if check.keeps else "bold red"
        name = _name(check) if verbose else shortened(_name(check), max(MIN_NAME_WIDTH, width - taken))
        table.add_row(name, *numbers, "yes" if check.keeps else "NO", style=style)
    yield table
    yield Text()
    if found.source is not None:
        which = "the same as stated" if found.same_samples else "other than those stated"
        yield Text(f"samples   {found.samples:,} of {found.source}, {which} ({found.provider})")
    word = "keeps what it says" if found.keeps else f"does NOT keep what it says: {found.reason}"
    yield Text(f"verdict   {word}", style="bold")


def _name(check: Check) -> str:
    return check.quantity if check.output is None else f"{check.quantity} of {check.output}"


def _numbers(check: Check, bounds: bool) -> tuple[str, str, str]:
    """Return the stated, found and allowed values as text; with ``bounds``, including the intervals."""
    if check.quantity == "input":
        return "this model" if check.keeps else "another model", "", ""
    if check.stated is None:
        return "", "", ""
    scale, sign = (100, "%") if check.quantity == "changed" else (1, "")

    def number(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{scale * value:.{digits}g}{sign}"

    def measured(value: float | None, low: float | None, high: float | None) -> str:
        known = bounds and low is not None and high is not None
        return f"{number(value)} [{number(low, 2)}, {number(high, 2)}]" if known else number(value)

    return (
        measured(check.stated, check.stated_low, check.stated_high),
        measured(check.found, check.found_low, check.found_high),
        number(check.allowed),
    )
