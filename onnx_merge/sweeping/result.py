"""The result of a sweep: one point for each share, and its CSV and JSON formats, whose keys are stable."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.io.model_source import FileInfo
from onnx_merge.metrics.measure import Measured
from onnx_merge.report.environment import environment
from onnx_merge.report.json_tables import SCHEMA_VERSION, cost_table, finite, json_text, latency_table
from onnx_merge.sweeping.frontier import frontier, knee

if TYPE_CHECKING:  # the table of a sweep does not need numba's compiler
    from onnx_merge.evaluation.verdict import Fidelity
    from onnx_merge.latency.measure import Latency
    from passes.cost.cost import Cost

Metric = Literal["metric", "accuracy", "top1_agreement", "nsr"]
METRICS: tuple[Metric, ...] = ("metric", "accuracy", "top1_agreement", "nsr")
Status = Literal["done", "rejected", "failed"]


@dataclass(frozen=True)
class Point:
    """One share that was tried. ``rejected``: the model missed the gate; ``failed``: there is no model."""

    keep: float
    status: Status
    reason: str | None = None
    """Why the model was rejected, or why there is none."""
    file: FileInfo = FileInfo(None, None)
    cost: Cost | None = None
    fidelity: Fidelity | None = None
    accuracy: Accuracy | None = None
    latency: tuple[Latency, ...] = ()
    ware: float | None = None
    """Weighted average reconstruction error, as in `onnx_merge.report.result.Result`."""
    seconds: float = 0.0
    """Time to compress and evaluate it."""
    metric: Measured | None = None

    def quality(self, metric: Metric) -> float | None:
        """The measured quality, None if it was not measured.

        It is the user's metric, the accuracy in percent, the share (0 to 1) of samples that keep their class, or the
        noise-to-signal ratio of the worst output.
        """
        if metric == "metric":
            return self.metric.after if self.metric and math.isfinite(self.metric.after) else None
        if metric == "accuracy":
            return self.accuracy.after if self.accuracy else None
        if self.fidelity is None:
            return None
        if metric == "top1_agreement":
            return None if self.fidelity.changed is None else 1 - self.fidelity.changed
        return self.fidelity.loss


@dataclass(frozen=True)
class Sweep:
    """All points, in ascending order of their shares."""

    version: str
    input: FileInfo
    folder: str
    before: Cost
    accuracy: float | None
    """Accuracy of the original in percent, if there are labels."""
    points: tuple[Point, ...]
    seconds: Mapping[str, float]
    seed: int
    argv: tuple[str, ...]
    provider: str
    notes: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=environment)
    """Versions of the software, and the machine."""

    @property
    def metric(self) -> Metric | None:
        """The quality that points are compared by; None if none was measured.

        It is the metric that the user chose; otherwise the accuracy if there are labels, the share of samples that keep
        their class for other classifiers, or the noise-to-signal ratio of the outputs.
        """
        measured = [p for p in self.points if p.fidelity is not None or p.accuracy is not None]
        if any(p.quality("metric") is not None for p in measured):
            return "metric"
        return next((m for m in METRICS if measured and all(p.quality(m) is not None for p in measured)), None)

    @property
    def measured(self) -> Measured | None:
        """The user's metric with the value of the original, from any point that has it."""
        return next((point.metric for point in self.points if point.metric), None)

    def original(self, metric: Metric) -> float | None:
        """The original's quality."""
        if metric == "metric":
            return self.measured.before if self.measured else None
        return self.accuracy if metric == "accuracy" else 1.0 if metric == "top1_agreement" else 0.0

    @cached_property
    def frontier(self) -> tuple[Point, ...]:
        """The points that no other dominates in MACs and quality, the smallest first. Models that missed the gate are
        excluded."""
        points, costs, qualities = self._comparable
        return tuple(points[i] for i in frontier(costs, qualities))

    @cached_property
    def knee(self) -> Point | None:
        """The point of the frontier farthest above the chord between its ends; see
        `onnx_merge.sweeping.frontier.knee`."""
        points, costs, qualities = self._comparable
        at = knee(costs, qualities) if points else None
        return None if at is None else points[at]

    @cached_property
    def _comparable(self) -> tuple[list[Point], list[float], list[float]]:
        points: list[Point] = []
        costs: list[float] = []
        qualities: list[float] = []
        for point in self.points:
            quality = point.quality(self.metric) if self.metric else None
            if point.status == "done" and point.cost is not None and quality is not None:
                points.append(point)
                costs.append(point.cost.macs)
                qualities.append(-quality if self.metric == "nsr" else quality)
        return points, costs, qualities

    def row(self, point: Point) -> dict[str, object]:
        """A row of the CSV file; latencies are of the first batch size."""
        now, old, close = point.cost, self.before, point.fidelity
        first = point.latency[0] if point.latency else None
        worst = close.worst if close else None
        return {
            "keep": point.keep,
            "status": point.status,
            "frontier": point in self.frontier,
            "knee": point is self.knee,
            "macs": now.macs if now else None,
            "macs_ratio": _ratio(now.macs, old.macs) if now else None,
            "params": now.params if now else None,
            "params_ratio": _ratio(now.params, old.params) if now else None,
            "bytes": now.bytes if now else None,
            "bytes_ratio": _ratio(now.bytes, old.bytes) if now else None,
            "accuracy": point.accuracy.after if point.accuracy else None,
            "top1_agreement": close.top1_agreement if close else None,
            "cosine": close.cosine if close else None,
            "relative_l2": close.relative_l2 if close else None,
            "ware": point.ware,
            "latency_before_ms": first.before_ms if first else None,
            "latency_ms": first.after_ms if first else None,
            "latency_ratio": first.ratio if first else None,
            "seconds": round(point.seconds, 6),
            "file": point.file.path,
            "sha256": point.file.sha256,
            "reason": point.reason,
            "verdict": close.verdict if close else None,
            "worst_output": worst.name if worst else None,
            "nsr": close.nsr if close else None,
            "kl": close.kl if close else None,
            "changed": worst.changed if worst else None,
            "changed_low": worst.changed_low if worst else None,
            "changed_high": worst.changed_high if worst else None,
            "metric": point.metric.after if point.metric else None,
        }

    def to_csv(self) -> str:
        """A header and a row for every point. Values that were not measured are empty."""
        sink = io.StringIO()
        rows = [self.row(point) for point in self.points]
        writer = csv.DictWriter(sink, list(rows[0]) if rows else ["keep"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: finite(value) for key, value in row.items()} for row in rows)
        return sink.getvalue()

    def to_dict(self) -> dict[str, object]:
        """The rows of the CSV file and the values common to all points, as JSON types."""
        table: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "input": {"path": self.input.path, "sha256": self.input.sha256},
            "folder": self.folder,
            "before": {
                **cost_table(self.before),
                "accuracy": self.accuracy,
                "metric": self.measured.before if self.measured else None,
            },
            "metric": self.metric,
            "metric_name": self.measured.name if self.measured else None,
            "knee": self.knee.keep if self.knee else None,
            "frontier": [point.keep for point in self.frontier],
            "points": [{**self.row(point), "latency": latency_table(point.latency)} for point in self.points],
            "seconds": {stage: round(seconds, 6) for stage, seconds in self.seconds.items()},
            "seed": self.seed,
            "argv": list(self.argv),
            "provider": self.provider,
            "notes": list(self.notes),
            "environment": dict(self.environment),
        }
        found = finite(table)
        assert isinstance(found, dict)
        return found

    def to_json(self) -> str:
        """`to_dict` as JSON text that ends in a line break."""
        return json_text(self.to_dict())


def _ratio(now: int, old: int) -> float | None:
    return now / old if old else None
