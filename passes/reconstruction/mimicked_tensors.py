"""Chooses the tensors that a student mimics, and weighs their channels.

They are the outputs of the model, and those of its layers: with few samples, the features between them say far more
than the outputs alone (Wang et al., Compressing models with few samples: mimicking then replacing, ECCV 2022). The loss
of a tensor is its squared error, each channel divided by its variance over the samples:

    L = sum_c v_c e_c / sum_c v_c s_c,   v_c = 1 / (s_c + f mean(s))

e_c and s_c are mean squares of the error and of the deviation from the mean. L is 1 for a student that gives the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.reconstruction.student import Student


@dataclass(frozen=True)
class MimickedTensor:
    """``name``: of the tensor, in the original and in the student; ``axis``: that of its channels; ``share``: its weight
    in the loss."""

    name: str
    axis: int
    share: float


def mimicked_tensors(pupil: Student, outputs: Mapping[str, Array], feature_weight: float) -> list[MimickedTensor]:
    """The float outputs of the model, of the shapes of ``outputs``, and what its layers give.

    Where a layer's output goes into a sum, the sum is mimicked: the layer then also corrects the other addend.
    """
    ends = [name for name in pupil.typing.graph.outputs if outputs[name].dtype.kind == "f" and outputs[name].ndim]
    made = {name for node in pupil.model.graph.node for name in node.output}
    inner = {one.layer.sum or one.layer.output: one.layer.axis for one in pupil.layers}
    inner = {name: axis for name, axis in inner.items() if name in made and name not in ends}
    of_layers = {one.layer.output: one.layer.axis for one in pupil.layers}
    found = [
        MimickedTensor(name, of_layers.get(name, channel_axis(outputs[name])) % outputs[name].ndim, 1 / len(ends))
        for name in ends
    ]
    ranks = {name: len(pupil.typing.graph.shape(name) or ()) for name in inner}
    share = feature_weight / max(1, len(inner))
    return [*found, *(MimickedTensor(name, axis % ranks[name], share) for name, axis in inner.items() if ranks[name])]


def channel_axis(values: Array, longest: int = 512) -> int:
    """The axis of an output (N, ...) along which the spread differs most: the last one of a matrix."""
    axes = [axis for axis in range(1, values.ndim) if 2 <= values.shape[axis] <= longest]
    if values.ndim <= 2 or not axes:
        return values.ndim - 1

    def contrast(axis: int) -> float:
        spread = variances([values], axis)
        spread = spread[spread > 0]
        return float(spread.max() / spread.min()) if len(spread) else 1.0

    return max(axes, key=contrast)


def variances(values: Sequence[Array], axis: int) -> Array:
    """Variance (C,) of each channel about the mean of each of its elements over the samples, or over samples and
    places where sizes differ.

    ``values``: batches (n, ...) of one tensor.
    """
    if len({array.shape[1:] for array in values}) > 1:
        rows = np.concatenate([np.moveaxis(a, axis, -1).reshape(-1, a.shape[axis]) for a in values])
        return rows.astype(np.float64).var(0)
    count = sum(map(len, values))
    mean = sum(array.sum(0, dtype=np.float64) for array in values) / max(1, count)
    others = tuple(k for k in range(values[0].ndim) if k != axis)
    squares = sum(np.square(array - mean).sum(others) for array in values)
    places = values[0][:1].size // values[0].shape[axis]
    return np.asarray(squares / max(1, count * places))


def channel_weights(spread: Array, floor: float) -> Array:
    """v_c / sum_c v_c s_c for the variances s_c (C,); zeros where nothing varies."""
    mean = float(spread.mean())
    if not 0 < mean < np.inf:
        return np.zeros_like(spread)
    inverse = 1 / (spread + floor * mean)
    return np.asarray(inverse / float((inverse * spread).sum()))
