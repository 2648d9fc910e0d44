"""Noise over signal between two models' outputs, about the mean of each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import UsageError
from onnx_merge.predicting import Predictor
from onnx_merge.runtime import Session
from onnx_merge.spread import Spread
from onnx_merge.structure import is_float
from passes.numerics.arrays import has_rows

Array = NDArray[Any]


def noise_over_signal(original: Session, result: Session, feeds: Mapping[str, Array], most: int) -> float:
    """Sum of squared differences over the sum of the original's squared deviations from the mean of each element over
    the samples; of several outputs the largest.

    Raises
    ------
    UsageError: no output varies from sample to sample.
    OnnxMergeError: a model cannot be run.
    """
    found: dict[str, Spread] = {}
    after = Predictor(result, most)
    for rows, outputs in Predictor(original, most).batches(feeds):
        others = after({n: a[rows] if has_rows(a) else a for n, a in feeds.items()})
        for name, target in outputs.items():
            if is_float(target) and has_rows(target) and target.shape == others[name].shape:
                pair = (np.asarray(a, np.float64).reshape(len(target), -1) for a in (target, others[name]))
                found.setdefault(name, Spread()).add(*pair)
    ratios = [float(s.error.sum() / s.spread.sum()) for s in found.values() if s.varies.any()]
    if not ratios:
        raise UsageError("max-drop cannot be measured: no output varies on the samples; give others, or a metric")
    return max(ratios)
