"""A unit's two layers solved together: the hidden channels that stay take the shape that serves the output best.

Solving layer by layer makes the kept channels what they were, and asks the next layer to do with them. Here both layers
move, from there, toward the same output (see `passes.numerics.gauss_newton`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.linalg import LinAlgError

from passes.graph.model import Array
from passes.interface.engine import Engine
from passes.numerics.gauss_newton import Affine, descend
from passes.reconstruction.layer_pair import LayerPair
from passes.reconstruction.layer_pair_model import Feed, Sizes, UnitModel
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.linear_layers import LinearLayer


class RefusalError(Exception):
    """Why a unit stays as it was solved layer by layer."""


@dataclass(frozen=True)
class SolvedLayer:
    """What becomes of a layer: its ``weights`` and ``bias``."""

    layer: LinearLayer
    weights: Array
    bias: Array | None

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps; none where it is dense."""
        return tuple(self.weights.shape[2:]) if self.layer.convolves else ()

    def affine(self) -> Affine:
        """The same as (O, D), D over (tap, channel)."""
        ordered = np.moveaxis(self.weights, self.layer.weight_axes, (0, -1))
        rows = ordered.reshape(len(ordered), -1).astype(np.float64)
        return Affine(rows, np.zeros(len(rows)) if self.bias is None else self.bias.ravel().astype(np.float64))

    def with_(self, found: Affine) -> SolvedLayer:
        """The same with other values."""
        shape = np.moveaxis(self.weights, self.layer.weight_axes, (0, -1)).shape
        weights = np.moveaxis(found.weights.reshape(shape), (0, -1), self.layer.weight_axes)
        return replace(self, weights=np.ascontiguousarray(weights, self.weights.dtype), bias=found.bias)


def refine(
    unit: LayerPair,
    blocks: tuple[SolvedLayer, SolvedLayer],
    feeds: Sequence[Feed],
    hidden: tuple[int, ...],
    share: float,
    engine: Engine,
    opset: int,
    tuning: Tuning = TUNING,
) -> tuple[list[SolvedLayer], float]:
    """Both layers with new values, and ||r||^2 afterwards over that before.

    ``hidden``: shape of what the second layer reads; ``share``: one batch in so many is looked at, two at least.
    Raises `RefusalError` with the reason where they had better stay as they are.
    """
    start = [block.affine() for block in blocks]
    limits = tuning.reconstruction
    if _algebra(start[0], start[1], limits.typical_steps) > limits.unit_operations:
        raise RefusalError("their linear algebra would take too long")
    axes = (unit.first.axis, unit.second.axis)
    part = list(feeds[:: max(1, min(len(feeds) // 2, int(share)))])
    model = UnitModel(unit, Sizes((blocks[0].kernel, blocks[1].kernel), hidden), part, engine, opset, tuning)
    ends = zip(start, ("x", "y"), axes, strict=True)
    first, second = (_stride(block, part, name, axis, limits.fewest_places) for block, name, axis in ends)
    try:
        metrics = model.metrics(start, (first, second), limits.damping)
    except LinAlgError as error:  # activations beyond all bounds
        raise RefusalError("what they read has no covariance to speak of") from error
    curvature = partial(model.curvature, every=max(1, min(limits.curvature_share, len(part) // 2)))
    point, losses = descend(start, metrics, model.slope, curvature, limits.most_steps, tuning.numerics.gauss_newton)
    return [b.with_(p) for b, p in zip(blocks, point, strict=True)], min(losses) / max(losses[0], 1e-300)


def _algebra(first: Affine, second: Affine, steps: int) -> float:
    """Operations: factors of covariances (D, D) and of S (K, K), and what each step solves with them."""
    (hidden, features), (outputs, seen) = first.weights.shape, second.weights.shape
    factors = (features**3 + seen**3 + hidden**3) / 3
    solves = 2 * features**2 * hidden + 2 * seen**2 * outputs + 6 * hidden**2 * features
    return float(factors + steps * solves)


def _stride(block: Affine, feeds: Sequence[Feed], name: str, axis: int, places: int) -> int:
    """``places``: those for each feature that are looked at."""
    stride = max(1, int(len(feeds) * _places(feeds[0][name], axis) // (places * block.weights.shape[1])))
    return stride + (stride > 1 and stride % 2 == 0)  # an odd one meets every column of an image


def _places(sample: Array, channel: int) -> int:
    return int(sample.size // sample.shape[channel])
