"""Measures the loss of a compressed model on each of the held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.drop_bounds import AccuracyLoss, AgreementLoss, Loss, MeanLoss
from onnx_merge.evaluation.fidelity import top_classes
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.metrics.measure import Measure
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.evaluation import GUARANTEES
from passes.numerics.arrays import rows_between, sample_count


@dataclass(frozen=True)
class Paired:
    """A measure of loss by sample.

    ``measure``: accuracy, agreement, or the name of a metric. ``no_loss``: a loss of zero on all samples. ``lost``:
    result -> its loss.
    """

    measure: str
    no_loss: Loss
    lost: Callable[[Session], Loss]


def paired(comparison: Comparison) -> Paired:
    """Return the measure: a metric if there is one, accuracy if there are labels, otherwise agreement of classes.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    UsageError: the model has no classes, or the loss of its outputs or of the metric is not a bounded mean over
    samples.
    """
    original, samples = comparison.original.session, comparison.samples.measured
    if original is None or samples is None:
        raise OnnxMergeError("confidence: nothing can be measured, since the model cannot be run")
    feeds, labels, batch = samples.feeds, samples.labels, comparison.original.memory.together(samples.feeds)
    if comparison.measure is not None and comparison.measure.metric.name != "accuracy":
        return _of_metric(comparison.measure, samples, original)
    before = top_classes(original, feeds, batch)
    if before is None:
        raise UsageError(
            "confidence needs a model with one output of class scores, or a metric: what other outputs lose is no mean "
            "over samples"
        )
    if labels is not None and comparison.before is not None:
        right = before == labels

        def lost(result: Session) -> Loss:
            after = np.asarray(top_classes(result, feeds, batch) == labels)
            return AccuracyLoss(int((right & ~after).sum()), int((after & ~right).sum()), len(right))

        return Paired("accuracy", AccuracyLoss(0, 0, len(right)), lost)

    def changed(result: Session) -> Loss:
        return AgreementLoss(int(np.sum(top_classes(result, feeds, batch) != before)), len(before))

    return Paired("agreement", AgreementLoss(0, len(before)), changed)


def _of_metric(measure: Measure, samples: Samples, original: Session) -> Paired:
    """Return the measure for a metric, which is evaluated on one sample at a time."""
    metric, first = measure.metric, Predictor(original)
    bounds = metric.bounds
    if bounds is None:
        raise UsageError(
            f"confidence needs a metric with bounds, and those of {metric.name} are not known: give its function an "
            "attribute bounds, such as (0, 1)"
        )
    low, high = bounds

    def each_of(predict: Predictor) -> NDArray[np.float64]:
        each = (metric(predict, *_row(samples, k)) for k in range(sample_count(samples.feeds)))
        found = np.fromiter(each, np.float64)
        if not (found.min() >= low and found.max() <= high):
            values = f"{found.min():g} to {found.max():g}"
            raise UsageError(f"{metric.name} gave {values}, beyond its bounds {low:g} and {high:g}")
        return found

    before = each_of(first)
    if not abs(before.mean() - measure.before) <= GUARANTEES.mean_rounding * (high - low):
        raise UsageError(
            f"confidence needs a metric that is a mean over samples: {metric.name} is {measure.before:.6g}, but "
            f"{before.mean():.6g} on average over single samples"
        )

    def fallen(result: Session) -> Loss:
        return MeanLoss(before - each_of(Predictor(result, original=first)), high - low)

    return Paired(metric.name, MeanLoss(np.zeros(len(before)), high - low), fallen)


def _row(samples: Samples, k: int) -> tuple[Mapping[str, Any], Any]:
    """Return one sample and its label."""
    return rows_between(samples.feeds, k, k + 1), None if samples.labels is None else samples.labels[k : k + 1]
