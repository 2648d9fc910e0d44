"""What a verification found, as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.console import printed, screen_width
from onnx_merge.table import plain_table, shortened
from onnx_merge.verification import Check, Verification

NAME_WIDTH = 40
POINTS = frozenset(("changed", "accuracy"))
"""Quantities that are shown in percent."""


def render(found: Verification, stream: TextIO, verbose: bool = False) -> str:
    """The table as ``stream`` can show it; see `onnx_merge.console.printed`."""
    return printed(_parts(found, screen_width(stream), verbose), stream, verbose)


def _parts(found: Verification, width: int, verbose: bool) -> Iterator[RenderableType]:
    for note in found.notes:
        yield Text(f"note: {note}", style="yellow")
    table = plain_table()
    table.add_column("", no_wrap=True, overflow="crop")
    for title in ("stated", "found", "allowed"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("keeps", no_wrap=True)
    room = 10_000 if verbose else min(NAME_WIDTH, max(12, width - 60))
    for check in found.checks:
        style = "" if check.keeps else "bold red"
        table.add_row(shortened(_name(check), room), *_numbers(check), "yes" if check.keeps else "NO", style=style)
    yield table
    yield Text()
    if found.source is not None:
        which = "the same" if found.same_samples else "other"
        yield Text(f"samples   {found.samples:,} of {found.source}: {which} samples as stated ({found.provider})")
    word = "keeps what it says" if found.keeps else f"does NOT keep what it says: {found.reason}"
    yield Text(f"verdict   {word}", style="bold")


def _name(check: Check) -> str:
    return check.quantity if check.output is None else f"{check.quantity} of {check.output}"


def _numbers(check: Check) -> tuple[str, str, str]:
    if check.quantity == "input":
        return ("this model", "this model", "") if check.keeps else ("another model", "", "")
    sign = check.quantity
    return (
        _with_interval(sign, check.stated, check.stated_low, check.stated_high),
        _with_interval(sign, check.found, check.found_low, check.found_high),
        _number(sign, check.allowed),
    )


def _with_interval(quantity: str, value: float | None, low: float | None, high: float | None) -> str:
    text = _number(quantity, value)
    return text if low is None or high is None else f"{text} [{_number(quantity, low)}, {_number(quantity, high)}]"


def _number(quantity: str, value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{100 * value:.2f}%"
        if quantity == "changed"
        else f"{value:.2f}%"
        if quantity == "accuracy"
        else f"{value:.3g}"
    )
