"""Weighs the elements of the model's outputs in the loss by which a student mimics the original.

All parts of all outputs (`passes.axes.output_parts`) count equally, and inside a part each channel by its own variance
(`passes.reconstruction.mimicked_tensors`). What joins outputs does not change the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from passes.axes.inference import Typing
from passes.axes.output_parts import index_sets
from passes.graph.model import Array
from passes.reconstruction.mimicked_tensors import channel_weights, variances


def output_weights(
    typing: Typing, outputs: Mapping[str, Sequence[Array]], axes: Mapping[str, int], floor: float
) -> dict[str, Array]:
    """Name of an output -> weights (1, ...) of its elements. Empty if no output has several parts, or if sizes vary.

    The loss of a batch of n samples is sum w (y - t)^2 / n. It is 1 for a student that gives the mean of each element.

    ``typing``: of the original; ``outputs``: name -> batches (n, ...) of the original's
    values; ``axes``: name -> axis of its channels; ``floor``: as in `channel_weights`.
    """
    shapes = {name: {array.shape[1:] for array in values} for name, values in outputs.items()}
    if any(len(sizes) > 1 for sizes in shapes.values()):
        return {}
    parts = {name: index_sets(typing, name, next(iter(sizes))) for name, sizes in shapes.items()}
    if all(len(sets) < 2 for sets in parts.values()):
        return {}
    found = {name: np.zeros((1, *values[0].shape[1:])) for name, values in outputs.items()}
    varying = 0
    for name, sets in parts.items():
        for indices in sets:
            where = np.ix_(np.zeros(1, np.intp), *indices)
            values = [array[np.ix_(np.arange(len(array)), *indices)] for array in outputs[name]]
            found[name][where] = weights = _weights(values, axes[name], floor)
            varying += bool(weights.any())
    return {name: weights / max(1, varying) for name, weights in found.items()}


def element_weights(
    typing: Typing, outputs: Mapping[str, Sequence[Array]], axes: Mapping[str, int], floor: float
) -> dict[str, Array]:
    """Weights (1, ...) of the elements of each output, whether the outputs have several parts or one. Their sizes must
    not vary."""
    found = output_weights(typing, outputs, axes, floor)
    return found or {name: _weights(values, axes[name], floor) / len(outputs) for name, values in outputs.items()}


def _weights(values: Sequence[Array], axis: int, floor: float) -> Array:
    """Weights (1, ...) of the elements of a part, for batches (n, ...) of its values: the same along all axes but
    ``axis``, of its channels."""
    line = channel_weights(variances(values, axis), floor)
    shape = [-1 if k == axis else 1 for k in range(values[0].ndim)]
    size = values[0].shape[axis] / max(1, values[0][:1].size)
    return np.broadcast_to(line.reshape(shape) * size, (1, *values[0].shape[1:]))
