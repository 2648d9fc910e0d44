"""One layer solved for by ridge regression, from the moments of what it reads and should give.

    min over W', b':  sum over places ||y - W' p' - b'||^2 + ridge ||W' - prior||^2

p' patches of the kept channels that it reads, y its targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passes.calibrated.flow import Engine
from passes.calibrated.layers import Layer
from passes.calibrated.moments import Batch, layer_moments, layer_rows
from passes.calibrated.patches import Window
from passes.graph.model import Array
from passes.numerics.ridge import Fit, Rows, fit, fit_rows

ENOUGH = 32
"""Places for each feature beyond which more are not looked at."""
MANY = 16384
"""Places that are looked at however few features there are."""
TOGETHER = 32
"""Samples whose moments are taken together."""
WIDE = 6144
"""Features from which on places are thinned out until there are fewer of them than features."""


def regress(
    layer: Layer, prior: Array, kept: Array, batches: Sequence[Batch], engine: Engine
) -> tuple[Array, Array | None, float]:
    """Weights at full width, zero but at the ``kept`` (groups, K) channels; bias; share of the targets' variance lost.

    ``prior``: weights at full width that the ridge pulls toward.
    """
    batches = _larger(batches)
    out, into = layer.weight_axes
    ordered = np.moveaxis(prior, (out, into), (0, -1))  # O taps... I
    groups, width = kept.shape
    taps = ordered.reshape(ordered.shape[0], -1, ordered.shape[-1])
    per_group = taps.shape[0] // groups
    features = taps.shape[1] * width
    places = sum(y.size for _, y in batches) // taps.shape[0]
    stride = max(1, places // max(ENOUGH * features, MANY))
    if features > WIDE:
        stride = max(stride, -(-places // (features // 2)))
    stride += stride > 1 and stride % 2 == 0  # an odd one meets every column of an image
    local = _local(layer, taps, kept)
    window = Window(kept, stride)
    fits: list[Fit] = []
    few = places // stride < features
    if few:
        rows = layer_rows(layer, window, prior, batches, engine)
        for g in range(groups):
            toward = taps[g * per_group : (g + 1) * per_group][:, :, local[g]].reshape(per_group, -1)
            fits.append(fit_rows(_halves_rows([r[g] for r in rows]), toward, layer.shift is not None))
    else:
        moments = layer_moments(layer, window, prior, batches, engine)
        for g in range(groups):
            toward = taps[g * per_group : (g + 1) * per_group][:, :, local[g]].reshape(per_group, -1)
            fits.append(fit((moments[0][g], moments[1][g]), toward, layer.shift is not None))
    solved = np.zeros_like(taps)
    for g, result in enumerate(fits):
        part = solved[g * per_group : (g + 1) * per_group]
        part[:, :, local[g]] = result.weights.reshape(per_group, taps.shape[1], -1)
    full = np.moveaxis(solved.reshape(ordered.shape), (0, -1), (out, into))
    bias = np.concatenate([f.intercept for f in fits]) if layer.shift is not None else None
    return np.ascontiguousarray(full), bias, float(np.mean([f.error for f in fits]))


def _larger(batches: Sequence[Batch]) -> list[Batch]:
    """The same samples in fewer batches, two at least: each costs a matrix of moments."""
    step = min(max(1, TOGETHER // max(1, len(batches[0][0]))), max(1, len(batches) // 2))
    parts = [batches[i : i + step] for i in range(0, len(batches), step)]
    return [(np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part])) for part in parts]


def _local(layer: Layer, taps: Array, kept: Array) -> list[Array]:
    """Kept positions on the weights' input axis, for each group."""
    inside = taps.shape[-1]
    return [row - g * inside if layer.groups > 1 else row for g, row in enumerate(kept)]


def _halves_rows(parts: Sequence[Rows]) -> tuple[Rows, Rows]:
    halves = [Rows(*(np.concatenate([getattr(r, n) for r in parts[i::2]]) for n in ("p", "y"))) for i in (0, 1)]
    return halves[0], halves[1]
