"""Measures of the loss that ``max_drop`` limits, in the units that fit the model and the samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import SIZE_SEARCH
from passes.pipeline import Compressed


@dataclass(frozen=True)
class Drop:
    """A measure of loss. ``of``: result -> its loss, 0 for none."""

    of: Callable[[Compressed], float]
    what: str
    """Text that follows the number in messages."""
    points: bool = True
    """Whether the unit is the percentage point, so that the largest value is 100."""

    def close(self, limit: float) -> float:
        """Return how far below ``limit`` a drop may be for the search to end."""
        return SIZE_SEARCH.drop_points if self.points else SIZE_SEARCH.drop_share * limit

    def said(self, value: float) -> str:
        """Format a loss, or a gain, for messages."""
        what = self.what.replace("lost", "gained") if value < 0 else self.what
        return f"{abs(value):.2f} {what}" if self.points else f"{abs(value):.3g} {what}"


def drop_measure(comparison: Comparison) -> Drop:
    """Return the measure that the options ask for, on the samples on which results are measured.

    With a metric: its decrease, in its own units. With labels: percentage points of accuracy. Otherwise: percentage of
    the samples whose class changes. If an output holds no classes: percentage of noise over signal (see
    `passes.numerics.noise_to_signal`) of the output with the largest loss.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    UsageError: the outputs allow no comparison, or the original's metric is infinite.
    """
    original, samples = comparison.original.session, comparison.samples.measured
    if original is None or samples is None:
        raise OnnxMergeError("max-drop cannot be measured: the model cannot be run")

    def loaded(result: Compressed) -> Session:
        return comparison.original.load(result.model)

    measure = comparison.measure
    if measure is not None:
        name, before = measure.metric.name, measure.before
        if not math.isfinite(before):
            raise UsageError(
                f"max-drop: the original's {name} is {before:g}, from which no drop can be computed: use min-metric"
            )
        return Drop(
            lambda result: before - measure.value(result, loaded(result), original), f"of {name} is lost", False
        )
    if comparison.before is not None:
        before = comparison.before

        def points(result: Compressed) -> float:
            found = comparison.accuracy(loaded(result))
            assert found is not None  # it was measured on the original too
            return before - found.after

        return Drop(points, "points are lost")
    close = comparison.of_itself()
    classes, some = close.changed is not None, any(output.changed is not None for output in close.outputs)
    others = f"percent of noise over signal{', or of the classes changed,' if some else ''} are added"
    what = "points are lost" if classes else others
    return Drop(lambda result: _lost(comparison.on_all(loaded(result))), what, points=classes)


def _lost(close: Fidelity) -> float:
    """Return the percentage of samples whose class changes, or noise over signal if an output holds no classes."""
    if close.lost is None:
        raise UsageError(f"max-drop cannot be measured{_unmeasured(close)}")
    return 100 * close.lost


def _unmeasured(close: Fidelity) -> str:
    """Return why the samples show no loss, and the remedy."""
    if close.samples < 2:
        return " on 1 sample: layers are fitted to half of those given: give at least 4 with calib"
    unlike = next((output for output in close.outputs if not output.constant), None)
    why = f"{unlike.name}: {unlike.reason}" if unlike else "no output varies on the samples"
    return f": {why}; give others, or a metric"
