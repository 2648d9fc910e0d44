"""What ``max_drop`` limits: what a result loses, in the units that fit the model and the samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.runtime.session import Session
from passes.pipeline import Compressed

POINTS = 0.2
"""Below the largest drop of accuracy or agreement at which the search ends."""
SHARE = 0.2
"""The same of other measures, as a share of the largest drop."""


@dataclass(frozen=True)
class Drop:
    """``of``: what a result loses; 0 is nothing."""

    of: Callable[[Compressed], float]
    what: str
    """For messages, behind a number."""
    points: bool = True
    """Whether it is in points, of which there are 100."""

    def close(self, limit: float) -> float:
        """How far below ``limit`` a drop may be that needs no closer one."""
        return POINTS if self.points else SHARE * limit

    def said(self, value: float) -> str:
        """What is lost, for people."""
        return f"{value:.2f} {self.what}" if self.points else f"{value:.3g} {self.what}"


def drop_measure(comparison: Comparison) -> Drop:
    """The measure that the options ask for, on the samples that results are measured on.

    With a metric, how far it falls, in its own units. With labels, percentage points of accuracy. Without, percent of
    the samples whose class changes; where an output holds no classes, percent of noise over signal (see
    `passes.numerics.noise_to_signal`), of the output that lost most.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    UsageError: nothing can be told from the outputs, or the original's metric is infinite.
    """
    original, samples = comparison.session, comparison.samples
    if original is None or samples is None:
        raise OnnxMergeError("max-drop cannot be measured: the model cannot be run")

    def loaded(result: Compressed) -> Session:
        return comparison.load(result.model)

    measure = comparison.measure
    if measure is not None:
        name, before = measure.metric.name, measure.before
        if not math.isfinite(before):
            raise UsageError(
                f"max-drop: the original's {name} is {before:g}, from which no drop can be told: use min-metric"
            )
        return Drop(
            lambda result: before - measure.value(result, loaded(result), original), f"of {name} is lost", False
        )
    if comparison.before is not None:
        before = comparison.before

        def points(result: Compressed) -> float:
            found = comparison.accuracy(loaded(result))
            assert found is not None  # as of the original
            return before - found.after

        return Drop(points, "points are lost")
    what = "points are lost" if (classes := comparison.holds_classes()) else "percent of noise over signal are added"
    return Drop(lambda result: _lost(comparison.on_all(loaded(result))), what, points=classes)


def _lost(close: Fidelity) -> float:
    """Percent of the samples whose class changes, or of noise over signal where an output holds no classes."""
    lost = close.nsr if close.changed is None else close.changed
    if lost is None:
        raise UsageError("max-drop cannot be measured: no output varies on the samples; give others, or a metric")
    return 100 * lost
