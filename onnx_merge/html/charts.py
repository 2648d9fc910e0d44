"""Coordinates of the charts of a page, in pixels. Templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
LEVELS = ((0.01, "e1", "below 1%"), (0.05, "e2", "1 to 5%"), (0.2, "e3", "5 to 20%"), (math.inf, "e4", "20% or more"))
"""Upper limit of an error, the class that colours it, and its description."""
WHOLE, UNMEASURED = "whole", "e0"
"""Classes of layers that keep all channels, and of those whose error is not known."""
CURVE_WIDTH, CURVE_HEIGHT, MARGIN = 112, 34, 3
DECADES = (-4.0, 1.0)
"""Common logarithms of noise over signal at the lower and the upper end of all loss curves."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a chart. ``level``: class for its colour; ``title``: its tooltip; ``link``: id to go to."""

    x: float
    y: float
    width: float
    height: float
    level: str = ""
    title: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class NetworkChart:
    """Layers side by side. ``before``, ``after``: channels, about a middle line; ``costs``, ``costs_after``:
    multiply-adds, upwards."""

    width: float
    height: float
    split: float
    """Height of the part with channels."""
    before: list[Bar]
    after: list[Bar]
    costs: list[Bar]
    costs_after: list[Bar]


@dataclass(frozen=True, slots=True)
class LossCurve:
    """``points``: of a polyline; ``dots``: measured values; ``chosen``: x of the width that the group got."""

    points: str
    dots: list[tuple[float, float]]
    chosen: float
    title: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """``bars``, and labels on the horizontal axis: (x, text)."""

    width: float
    height: float
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    most: int


def error_level(error: float | None) -> str:
    """The class that colours an error, a share of variance."""
    return UNMEASURED if error is None else next(name for limit, name, _ in LEVELS if error < limit)


def network_chart(
    layers: Sequence[Json], levels: Sequence[str], titles: Sequence[str], links: Sequence[str]
) -> NetworkChart:
    """Lay out ``layers``, each with ``size``, ``kept``, ``macs`` and ``macs_kept``.

    The height of a layer's outline grows with the square root of its channels, so that narrow layers stay visible. The
    filled part is the share of them that is kept.
    """
    step = min(56.0, max(4.0, 1000 / max(1, len(layers))))
    thick, tall, low = round(step * 0.76, 2), 120.0, 54.0
    widest = max((layer["size"] for layer in layers), default=1) or 1
    costliest = max((layer["macs"] for layer in layers), default=1) or 1
    chart = NetworkChart(round(step * len(layers), 2), tall + low + 14, tall, [], [], [], [])
    for k, (layer, level, title, link) in enumerate(zip(layers, levels, titles, links, strict=True)):
        x = round(k * step + (step - thick) / 2, 2)
        outline = max(3.0, tall * math.sqrt(layer["size"] / widest))
        filled = outline * (layer["kept"] / layer["size"] if layer["size"] else 1)
        chart.before.append(_centred(x, thick, outline, tall, "", title, link))
        chart.after.append(_centred(x, thick, filled, tall, level))
        for bars, macs in ((chart.costs, layer["macs"]), (chart.costs_after, layer["macs_kept"])):
            height = round(low * macs / costliest, 2)
            bars.append(Bar(x, round(chart.height - height, 2), thick, height, level))
    return chart


def _centred(x: float, width: float, height: float, room: float, level: str, title: str = "", link: str = "") -> Bar:
    return Bar(x, round((room - height) / 2, 2), width, round(height, 2), level, title, link)


def loss_curve(losses: Sequence[Json], size: int, kept: int) -> LossCurve | None:
    """The loss of the outputs over the channels left in one group; None where it was not measured.

    All curves have the same axes: no to all channels, and noise over signal on a logarithmic scale.
    """
    known = [(one["channels"], one["nsr"]) for one in losses if one["nsr"] is not None]
    if not known or not size:
        return None
    low, high = DECADES
    dots = []
    for channels, loss in known:
        level = min(max(math.log10(max(loss, 10**low)), low), high)
        y = MARGIN + (CURVE_HEIGHT - 2 * MARGIN) * (high - level) / (high - low)
        dots.append((_across(channels, size), round(y, 1)))
    title = ", ".join(f"{channels} left: {loss:.2g}" for channels, loss in known)
    return LossCurve(" ".join(f"{x},{y}" for x, y in dots), dots, _across(kept, size), title)


def _across(channels: int, size: int) -> float:
    return round(MARGIN + (CURVE_WIDTH - 2 * MARGIN) * channels / size, 1)


def histogram(edges: Sequence[float], counts: Sequence[int]) -> Histogram | None:
    """Bars over a logarithmic axis; None without values."""
    if not counts or not any(counts):
        return None
    width, height, most = 560.0, 120.0, max(counts)
    step = width / len(counts)
    bars = []
    for k, number in enumerate(counts):
        tall = round(height * number / most, 1)
        title = f"{number:,} with {edges[k]:.2g} to {edges[k + 1]:.2g}"
        bars.append(Bar(round(k * step + 1, 1), round(height - tall, 1), round(step - 2, 1), tall, "e2", title))
    return Histogram(width, height, bars, _ticks(edges[0], edges[-1], width), most)


def _ticks(low: float, high: float, width: float) -> list[tuple[float, str]]:
    """Powers of ten between two positive numbers; where there are fewer than three of them, 1, 2 and 5 times these."""
    start, end = math.log10(low), math.log10(high)
    for steps in ((1,), (1, 2, 5)):
        exponents = range(math.floor(start), math.ceil(end) + 1)
        values = [step * 10.0**exponent for exponent in exponents for step in steps]
        inside = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(inside) >= 3:
            break
    chosen = inside if len(inside) > 1 else [low, high]
    return [(round(width * (math.log10(value) - start) / (end - start), 1), f"{value:.2g}") for value in chosen]
