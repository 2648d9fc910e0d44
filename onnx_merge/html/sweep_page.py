"""The page of a sweep, from its JSON report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_merge.html.frontier_chart import FrontierChart, frontier_chart
from onnx_merge.html.number_text import NONE, percent, significant
from onnx_merge.html.rendering import rendered
from onnx_merge.html.reproduction import command
from onnx_merge.io.base_name import base_name

Json = Mapping[str, Any]
QUALITIES = {
    "accuracy": ("top-1 accuracy", "Top-1 accuracy (%)"),
    "top1_agreement": ("a share of samples that keep their class", "Samples that keep their class"),
    "nsr": ("noise over signal", "Noise over signal (less is better)"),
}
"""Quality that points are compared by -> its name in a sentence, and as a title. The user's metric has its own."""
STATUSES = {"done": "done", "rejected": "missed a limit", "failed": "no model"}
COSTS = (("macs_ratio", "multiply-adds"), ("bytes_ratio", "size of the file"), ("latency_ratio", "latency"))


def sweep_page(report: Json) -> str:
    """Return the page. ``report``: as `onnx_merge.sweeping.result.Sweep.to_dict` returns it."""
    quality = report["metric"]
    knee = next((point for point in report["points"] if point["knee"]), None)
    own = base_name(report["metric_name"])
    batches = sorted({batch for point in report["points"] for batch in _taken(point)})
    words, title = (own, own) if quality == "metric" else QUALITIES.get(quality, ("", ""))
    return rendered(
        "sweep.html",
        report=report,
        title=base_name(report["input"]["path"]) or "model in memory",
        sentence=_sentence(report, knee, words),
        quality=quality,
        quality_title=title,
        points=[{**p, "quality": _shown(p, quality), "latencies": _latencies(p, batches)} for p in report["points"]],
        original=_original(report),
        charts=_charts(report, title),
        statuses=STATUSES,
        latency_titles=[(f"Latency, batch {batch}", True) for batch in batches],
        command=command(report["argv"]),
    )


def _taken(point: Json) -> dict[int, float]:
    """Batch size -> milliseconds."""
    latency = point["latency"]
    return {one["batch"]: one["after_ms"] for one in latency["batches"]} if latency else {}


def _latencies(point: Json, batches: Sequence[int]) -> list[float | None]:
    taken = _taken(point)
    return [taken.get(batch) for batch in batches]


def _sentence(report: Json, knee: Json | None, words: str) -> str:
    tried = len(report["points"])
    if knee is None:
        return f"{tried} sizes were made and compared; none stands out as the knee of the frontier."
    quality = f" and {words} of {_shown(knee, report['metric'])}" if words else ""
    before = (
        f" (original {_value(_original(report), report['metric'])})" if words and _original(report) is not None else ""
    )
    left = f"{percent(knee['macs_ratio'])} of the multiply-adds, {percent(knee['bytes_ratio'])} of the bytes"
    return f"{tried} sizes were made and compared. The knee is keep {knee['keep']:g}, with {left}{quality}{before}."


def _charts(report: Json, title: str) -> list[FrontierChart]:
    quality = report["metric"]
    if quality is None:
        return []
    found = (
        frontier_chart(
            f"{title} over {label}, relative to the original's",
            report["points"],
            cost,
            _original(report),
            reversed_quality=quality == "nsr",
            quality=quality,
        )
        for cost, label in COSTS
    )
    return [chart for chart in found if chart is not None]


def _original(report: Json) -> float | None:
    """The original's quality."""
    quality, before = report["metric"], report["before"]
    if quality in ("metric", "accuracy"):
        value: float | None = before[quality]
        return value
    return {"top1_agreement": 1.0, "nsr": 0.0}.get(quality or "")


def _shown(point: Json, quality: str | None) -> str:
    return NONE if quality is None else _value(point[quality], quality)


def _value(value: float | None, quality: str | None) -> str:
    if value is None:
        return NONE
    return (
        f"{value:.2f}%"
        if quality == "accuracy"
        else percent(value)
        if quality == "top1_agreement"
        else significant(value, 4)
    )
