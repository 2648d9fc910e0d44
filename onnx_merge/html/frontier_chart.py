"""Coordinates of the charts of a sweep: quality over cost, with the frontier and its knee."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 328.0, 250.0, 54.0, 34.0, 14.0, 18.0
"""Size of a chart and its margins in pixels."""
TICKS = 4
"""Approximate number of marks on an axis."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A size at (x, y). ``kind``: on, off (the frontier), or knee."""

    x: float
    y: float
    kind: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class FrontierChart:
    """``line``: the points of the frontier's polyline; ``original``: where the original is; ``columns`` and ``rows``:
    position and text of the marks on the axes."""

    label: str
    width: float
    height: float
    line: str
    dots: list[Dot]
    original: tuple[float, float] | None
    columns: list[tuple[float, str]]
    rows: list[tuple[float, str]]
    left: float
    floor: float
    top: float
    right: float


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return round(self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low), 1)


def frontier_chart(
    label: str, points: Sequence[Json], cost: str, original: float | None, *, reversed_quality: bool, quality: str
) -> FrontierChart | None:
    """Lay out the quality of points over one of their costs, both by key; None if no point has both.

    Costs are shares of the original's, which is at 1. ``original``: its quality. ``reversed_quality``: less is better,
    and is higher in the chart.
    """
    known = [p for p in points if p[cost] is not None and p[quality] is not None and p["status"] != "failed"]
    if not known:
        return None
    across = _axis([0.0, 1.0, *(p[cost] for p in known)], LEFT, WIDTH - RIGHT)
    values = [p[quality] for p in known] + ([] if original is None else [original])
    floor, top = HEIGHT - BOTTOM, TOP
    up = _axis(values, *((top, floor) if reversed_quality else (floor, top)))
    dots = [
        Dot(across.at(p[cost]), up.at(p[quality]), kind, f"{p['keep']:g}", f"keep {p['keep']:g}: {p[quality]:.4g}")
        for p in known
        for kind in ("on" if p["frontier"] else "off", *(["knee"] if p["knee"] else []))
    ]
    line = " ".join(f"{across.at(p[cost])},{up.at(p[quality])}" for p in known if p["frontier"])
    place = None if original is None else (across.at(1.0), up.at(original))
    columns = [(across.at(v), f"{100 * v:.0f}%") for v in _marks(0.0, across.high)]
    rows = [(up.at(v), f"{v:.6g}") for v in _marks(up.low, up.high)]
    return FrontierChart(label, WIDTH, HEIGHT, line, dots, place, columns, rows, LEFT, floor, top, WIDTH - RIGHT)


def _axis(values: Iterable[float], start: float, end: float) -> _Axis:
    known = list(values)
    low, high = min(known), max(known)
    room = 0.06 * (high - low) if high > low else abs(high) * 0.1 or 0.5
    return _Axis(low if low == 0.0 else low - room, high + room, start, end)


def _marks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``, steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough)
    first = math.ceil(low / step)
    return [round(k * step, 12) for k in range(first, math.floor(high / step) + 1)]
