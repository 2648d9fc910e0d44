"""How far a step moves the weights of each layer, and which weights it moves as matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from passes.graph.model import Array
from passes.numerics.muon import MatrixForm
from passes.reconstruction.student import StudentLayer
from passes.settings.distillation_tuning import DistillationTuning


@dataclass(frozen=True)
class StepSizes:
    """``scales``: name of weights or biases -> size of a step at rate 1, which broadcasts to them; ``forms``: weights
    that are moved as matrices -> how they are."""

    scales: dict[str, Array] = field(default_factory=dict)
    forms: dict[str, MatrixForm] = field(default_factory=dict)


def step_sizes(
    layers: Sequence[StudentLayer], spreads: Mapping[str, float], multiply_adds: float, tuning: DistillationTuning
) -> StepSizes:
    """Steps that change each output by the rate, relative to its spread, where changes add up over the inputs.

    ``spreads``: standard deviation of each tensor; ``multiply_adds``: of a step. Matrices may add a share of these.
    """
    scales, matrices = dict[str, Array](), dict[str, tuple[float, MatrixForm]]()
    for one in layers:
        weights = one.start
        sizes = row_sizes(weights, one.layer.weight_axes[0], tuning.smallest_row)
        inputs = math.sqrt(weights.size / max(1, sizes.size))
        if one.weight:
            scales[one.weight] = np.asarray(sizes / inputs, weights.dtype)
            form = MatrixForm(one.layer.weight_axes[0], one.groups)
            if form.sizes(weights.shape)[0] > 1:
                matrices[one.weight] = (form.cost(weights.shape), form)
        if one.bias:
            spread = spreads.get(one.layer.data, 1.0) * inputs * sizes.ravel()
            scales[one.bias] = np.asarray(spread, weights.dtype)
    left, forms = tuning.matrix_share * multiply_adds, dict[str, MatrixForm]()
    for name, (cost, form) in sorted(matrices.items(), key=lambda item: item[1][0]):
        left -= cost
        if left >= 0:
            forms[name] = form
    return StepSizes(scales, forms)


def row_sizes(weights: Array, axis: int, smallest: float) -> Array:
    """Root mean square of the weights of each output, of a shape that broadcasts to ``weights``, at least a share
    ``smallest`` of that of all weights. Outputs differ in size where norms were folded into them."""
    others = tuple(k for k in range(weights.ndim) if k != axis)
    squares = np.square(weights, dtype=np.float64).mean(others, keepdims=True)
    return np.asarray(np.sqrt(np.maximum(squares, smallest**2 * squares.mean())), weights.dtype)
