"""Refines the two layers of a layer pair jointly, to minimise the error of the second layer's output.

Layerwise regression fits the kept hidden channels to their original values, and then the next layer to these channels.
Here both layers change, starting from that solution, to minimise one error (see `passes.numerics.gauss_newton`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.linalg import LinAlgError

from passes.graph.model import Array
from passes.interface.engine import Engine, placed
from passes.layer_pairs.layer_pair import LayerPair
from passes.layer_pairs.layer_pair_model import Feed, LayerPairModel, Sizes
from passes.numerics.gauss_newton import Affine, descend
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.lazy import Lazy
from passes.statistics.linear_layers import LinearLayer


class RefusalError(Exception):
    """A layer pair keeps its layerwise solution; the message gives the reason."""


@dataclass(frozen=True)
class SolvedLayer:
    """A layer with its present ``weights`` and ``bias``. ``damping``: of the metric of its steps."""

    layer: LinearLayer
    weights: Array
    bias: Array | None
    damping: float

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel shape; empty for a dense layer."""
        return tuple(self.weights.shape[2:]) if self.layer.convolves else ()

    def affine(self) -> Affine:
        """Weights as (O, D), D over (tap, channel), and the bias (O,)."""
        ordered = np.moveaxis(self.weights, self.layer.weight_axes, (0, -1))
        rows = ordered.reshape(len(ordered), -1).astype(np.float64)
        return Affine(rows, np.zeros(len(rows)) if self.bias is None else self.bias.ravel().astype(np.float64))

    def with_(self, found: Affine) -> SolvedLayer:
        """The layer with the values of ``found``."""
        shape = np.moveaxis(self.weights, self.layer.weight_axes, (0, -1)).shape
        weights = np.moveaxis(found.weights.reshape(shape), (0, -1), self.layer.weight_axes)
        return replace(self, weights=np.ascontiguousarray(weights, self.weights.dtype), bias=found.bias)


def refine(
    pair: LayerPair,
    blocks: tuple[SolvedLayer, SolvedLayer],
    feeds: Sequence[Feed],
    hidden: tuple[int, ...],
    share: float,
    engine: Engine,
    opset: int,
    tuning: Tuning = TUNING,
    in_memory: bool = True,
    workers: int = 1,
) -> tuple[list[SolvedLayer], float]:
    """Both layers with new values, and the ratio of ||r||^2 after the refinement to that before.

    ``hidden``: shape of the second layer's input; ``share``: one batch in so many (rounded down) is used, at least two;
    ``in_memory``: whether these fit into memory together, else each is made again for every step; ``workers``: most of
    them that run at the same time.

    Raises
    ------
    RefusalError: the refinement would take too long or cannot be computed; the message gives the reason.
    """
    start = [block.affine() for block in blocks]
    limits = tuning.reconstruction
    if _algebra(start[0], start[1], limits.typical_steps) > limits.pair_operations:
        raise RefusalError("their linear algebra would take too long")
    axes = (pair.first.axis, pair.second.axis)
    count = min(len(feeds), max(2, math.ceil(len(feeds) / max(1, int(share)))))
    used = [len(feeds) * i // count for i in range(count)]
    part = (
        [placed(engine, feeds[i]) for i in used] if in_memory else Lazy([partial(feeds.__getitem__, i) for i in used])
    )
    sizes = Sizes((blocks[0].kernel, blocks[1].kernel), hidden)
    model = LayerPairModel(pair, sizes, part, engine, opset, tuning, workers)
    ends = zip(start, ("x", "y"), axes, strict=True)
    first, second = (_stride(block, part, name, axis, limits.fewest_places) for block, name, axis in ends)
    try:
        metrics = model.metrics(start, (first, second), (blocks[0].damping, blocks[1].damping))
    except LinAlgError as error:  # activations are not finite, or overflow
        raise RefusalError("what they read has no covariance to speak of") from error
    curvature = partial(model.curvature, every=limits.curvature_share)
    point, losses = descend(start, metrics, model.slope, curvature, limits.most_steps, tuning.numerics.gauss_newton)
    return [b.with_(p) for b, p in zip(blocks, point, strict=True)], min(losses) / max(losses[0], 1e-300)


def _algebra(first: Affine, second: Affine, steps: int) -> float:
    """Operations: factorisations of the covariances (D, D) and of S (K, K), and the solves of each step."""
    (hidden, features), (outputs, seen) = first.weights.shape, second.weights.shape
    factors = (features**3 + seen**3 + hidden**3) / 3
    solves = 2 * features**2 * hidden + 2 * seen**2 * outputs + 6 * hidden**2 * features
    return float(factors + steps * solves)


def _stride(block: Affine, feeds: Sequence[Feed], name: str, axis: int, places: int) -> int:
    """Stride between the places that are used. ``places``: how many are used for each feature."""
    stride = max(1, int(len(feeds) * _places(feeds[0][name], axis) // (places * block.weights.shape[1])))
    return stride + (stride > 1 and stride % 2 == 0)  # an odd stride visits every column of an image


def _places(sample: Array, channel: int) -> int:
    return int(sample.size // sample.shape[channel])
