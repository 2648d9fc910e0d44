"""A unit's two layers solved together: the hidden channels that stay take the shape that serves the output best.

Solving layer by layer makes the kept channels what they were, and asks the next layer to do with them. Here both layers
move, from there, toward the same output (see `passes.numerics.descent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.calibrated.flow import Engine
from passes.calibrated.layers import Layer
from passes.calibrated.unit import Unit
from passes.calibrated.unit_model import Feed, Sizes, UnitModel
from passes.graph.model import Array
from passes.numerics.descent import Affine, descend

STEPS = 5
"""More of them gain nothing on samples that were not seen."""
DAMPING = 0.1
ENOUGH, PLENTY = 32, 128
"""Places for each feature: so many samples are looked at, and more up to `SAMPLES` while places are not plenty."""
SAMPLES = 64


@dataclass(frozen=True)
class Cut:
    """What of a layer stays: ``outputs`` and ``inputs`` at its axes, positions at full width."""

    outputs: Array
    inputs: Array


def refine(
    unit: Unit,
    weights: tuple[Array, Array],
    biases: tuple[Array | None, Array | None],
    cuts: tuple[Cut, Cut],
    feeds: Sequence[Feed],
    hidden: tuple[int, ...],
    engine: Engine,
    opset: int,
) -> tuple[list[Array], list[Array], float]:
    """New weights and biases of both layers at full width, and ||r||^2 afterwards over that before."""
    layers = (unit.first, unit.second)
    start = [_narrow(*parts) for parts in zip(layers, weights, biases, cuts, strict=True)]
    kernels = tuple(
        tuple(w.shape[2:]) if layer.node.op == "Conv" else () for layer, w in zip(layers, weights, strict=True)
    )
    sizes = Sizes((kernels[0], kernels[1]), hidden)
    part = feeds[:: _every(start, feeds)]
    model = UnitModel(unit, sizes, part, engine, opset)
    strides = (_stride(start[0], part[0]["x"], part), _stride(start[1], part[0]["y"], part))
    point, losses = descend(start, model.metrics(start, strides, DAMPING), model.slope, model.curvature, STEPS)
    wide = [_wide(*parts) for parts in zip(layers, weights, biases, cuts, point, strict=True)]
    return [w for w, _ in wide], [b for _, b in wide], min(losses) / max(losses[0], 1e-300)


def _every(start: Sequence[Affine], feeds: Sequence[Feed]) -> int:
    """Which part of the batches is worth looking at, one in so many."""
    samples = len(feeds[0]["x"])
    places = min(_places(feeds[0][name]) for name in "xy") / samples
    features = max(block.weights.shape[1] for block in start)
    wanted = max(ENOUGH * features / places, min(SAMPLES, PLENTY * features / places))
    return max(1, min(len(feeds) // 2, int(len(feeds) * samples / wanted)))


def _stride(block: Affine, sample: Array, feeds: Sequence[Feed]) -> int:
    stride = max(1, int(len(feeds) * _places(sample) // (ENOUGH * block.weights.shape[1])))
    return stride + (stride > 1 and stride % 2 == 0)  # an odd one meets every column of an image


def _places(sample: Array) -> int:
    return int(sample.size // sample.shape[1 if sample.ndim > 2 else -1])


def _narrow(layer: Layer, weights: Array, bias: Array | None, cut: Cut) -> Affine:
    """(O, D), D over (tap, channel)."""
    ordered = np.moveaxis(weights, layer.weight_axes, (0, -1))[cut.outputs][..., cut.inputs]
    rows = ordered.reshape(len(cut.outputs), -1).astype(np.float64)
    shift = np.zeros(len(rows)) if bias is None else bias.ravel()[cut.outputs].astype(np.float64)
    return Affine(rows, shift)


def _wide(layer: Layer, weights: Array, bias: Array | None, cut: Cut, found: Affine) -> tuple[Array, Array]:
    ordered = np.moveaxis(weights.copy(), layer.weight_axes, (0, -1))
    shape = (len(cut.outputs), *ordered.shape[1:-1], len(cut.inputs))
    ordered[np.ix_(cut.outputs, *map(np.arange, ordered.shape[1:-1]), cut.inputs)] = found.weights.reshape(shape)
    shift = np.zeros(ordered.shape[0]) if bias is None else bias.ravel().astype(np.float64)
    shift[cut.outputs] = found.bias
    return np.ascontiguousarray(np.moveaxis(ordered, (0, -1), layer.weight_axes)), shift
