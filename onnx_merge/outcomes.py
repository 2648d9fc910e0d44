"""What a compressed model loses, sample by sample, on the samples that were held out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_merge.compare import Comparison
from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.parity import top_classes
from onnx_merge.promise import AccuracyLoss, ClassChanges, Loss
from onnx_merge.runtime import Session


def paired(comparison: Comparison) -> tuple[str, Callable[[Session], Loss]]:
    """What is measured, and a function of the result that measures it: accuracy where there are labels, else whether
    classes change.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    UsageError: the model has no classes.
    """
    original, samples = comparison.session, comparison.samples
    if original is None or samples is None:
        raise OnnxMergeError("confidence: nothing can be measured, since the model cannot be run")
    feeds, labels, most = samples.feeds, samples.labels, comparison.fitting.together(samples.feeds)
    before = top_classes(original, feeds, most)
    if before is None:
        raise UsageError(
            "confidence needs a model with one output of class scores: what other outputs lose is no mean over samples"
        )
    if labels is not None and comparison.before is not None:
        right = before == labels

        def lost(result: Session) -> Loss:
            after = np.asarray(top_classes(result, feeds, most) == labels)
            return AccuracyLoss(int((right & ~after).sum()), int((after & ~right).sum()), len(right))

        return "accuracy", lost

    def changed(result: Session) -> Loss:
        return ClassChanges(int(np.sum(top_classes(result, feeds, most) != before)), len(before))

    return "agreement", changed
