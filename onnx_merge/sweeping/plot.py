"""Plot a sweep: quality over MACs, file size and latency, with the frontier and its knee."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_merge.sweeping.result import Metric, Point, Sweep

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.axes import Axes

AXIS_LABELS: dict[Metric, str] = {
    "metric": "metric",
    "accuracy": "top-1 accuracy (%)",
    "top1_agreement": "samples with the original's class (%)",
    "nsr": "noise over signal (less is better)",
}
FRONTIER, KNEE, OTHER = "tab:blue", "tab:red", "tab:grey"
MAX_LABELLED = 12
"""Up to this many points, each is labelled with its share; with more points, only the knee and the ends of the
frontier."""
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"), (1.0, "number"))


@dataclass(frozen=True)
class Scale:
    """A cost axis. ``value`` is the cost of a point, None if it was not measured; ``original`` is the cost of the
    original."""

    label: str
    value: Callable[[Point], float | None]
    original: float


def draw(sweep: Sweep) -> bytes:
    """The plot as PNG. If no quality was measured, or there is no model, it contains a note instead."""
    # Warnings are suppressed: a missing glyph in a model's name must not end a sweep, and the message that a font cache
    # is being built is irrelevant.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _draw(sweep)
    finally:
        logger.setLevel(level)


def _draw(sweep: Sweep) -> bytes:
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    metric, scales = sweep.metric, _scales(sweep)
    figure = Figure(figsize=(1.5 + 4.2 * len(scales), 4.4), layout="constrained")
    panels = figure.subplots(1, len(scales), sharey=True, squeeze=False)[0]
    for axes, scale in zip(panels, scales, strict=True):
        axes.set_xlabel(scale.label)
        axes.grid(alpha=0.3)
        if metric is not None:
            _panel(axes, sweep, metric, scale)
        else:
            axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=OTHER)
    label = AXIS_LABELS[metric] if metric else "quality"
    if metric == "metric" and sweep.measured:
        label = sweep.measured.name
    panels[0].set_ylabel(label, parse_math=False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names) or 1, frameon=False, fontsize=9)
    name = Path(sweep.input.path).name if sweep.input.path else "model"
    figure.suptitle(f"{name}: share of channels kept, from {sweep.points[0].keep:g} to {sweep.points[-1].keep:g}").set(
        parse_math=False, fontsize=11
    )
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=150)
    return sink.getvalue()


def _panel(axes: Axes, sweep: Sweep, metric: Metric, scale: Scale) -> None:
    knee = sweep.knee
    best = [point for point in sweep.frontier if scale.value(point) is not None]
    others = [point for point in sweep.points if scale.value(point) is not None and point not in best]
    at = {
        point.keep: (scale.value(point) or 0.0, _percent(metric, point.quality(metric))) for point in (*best, *others)
    }
    axes.plot(
        *_columns([at[p.keep] for p in best]), "o-", color=FRONTIER, ms=5, lw=1.5, label="frontier by MACs", zorder=3
    )
    for status, marker, label in (("done", "o", "dominated"), ("rejected", "x", "missed the gate")):
        some = [at[p.keep] for p in others if p.status == status]
        if some:
            axes.plot(*_columns(some), marker, color=OTHER, ms=5, mfc="white", ls="", label=label, zorder=2)
    whole = _percent(metric, sweep.original(metric))
    axes.plot([scale.original], [whole], "s", color="black", ms=6, mfc="white", label="original", zorder=2)
    if knee is not None and knee.keep in at:
        axes.plot(
            *_columns([at[knee.keep]]),
            "o",
            color=KNEE,
            ms=14,
            mfc="none",
            mew=1.8,
            ls="",
            label=f"knee: keep {knee.keep:g}",
            zorder=4,
        )
    ends = {knee.keep} if knee else set()
    ends.update(point.keep for point in (best[:1] + best[-1:]))
    for keep in at if len(at) <= MAX_LABELLED else ends:
        is_knee, below = knee is not None and keep == knee.keep, keep in {p.keep for p in others}
        axes.annotate(
            f"{keep:g}",
            at[keep],
            # The line of the frontier does not pass above left of its points, nor below dominated points.
            xytext=(0, -8) if below else (-8, 6) if is_knee else (-5, 3),
            textcoords="offset points",
            ha="center" if below else "right",
            va="top" if below else "bottom",
            fontsize=8,
            color=KNEE if is_knee else OTHER if below else "black",
        )
    axes.margins(0.09, 0.14)
    if metric == "nsr" and not axes.yaxis_inverted():
        axes.invert_yaxis()  # so that better is higher, as for the other metrics


def _scales(sweep: Sweep) -> list[Scale]:
    old = sweep.before
    macs, macs_unit = _unit(COUNTS, old.macs)
    size, size_unit = _unit(SIZES, old.bytes)
    scales = [
        Scale(f"MACs ({macs_unit})", lambda p: p.cost.macs / macs if p.cost else None, old.macs / macs),
        Scale(f"size of the file ({size_unit})", lambda p: p.cost.bytes / size if p.cost else None, old.bytes / size),
    ]
    first = next((point.latency[0] for point in sweep.points if point.latency), None)
    if first is not None:
        # From the ratios, which other load on the machine distorts less than the absolute times.
        before = first.before_ms
        label = f"latency (ms, batch {first.batch}, {first.provider})"
        scales.append(Scale(label, lambda p: p.latency[0].ratio * before if p.latency else None, before))
    return scales


def _unit(units: Sequence[tuple[float, str]], most: float) -> tuple[float, str]:
    return next((unit for unit in units if most >= unit[0]), units[-1])


def _percent(metric: Metric, value: float | None) -> float:
    return (
        float("nan")
        if value is None or not math.isfinite(value)
        else value * (100 if metric == "top1_agreement" else 1)
    )


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
