"""One layer solved for by ridge regression, from the moments of what it reads and should give.

    min over W', b':  sum over places ||y - W' p' - b'||^2 + ridge ||W' - prior||^2

p' patches of what it reads, y its targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np

from passes.calibrated.layers import Layer
from passes.calibrated.moments import Batch, halves_of, layer_moments, layer_rows
from passes.calibrated.patches import Window
from passes.graph.engine import Engine
from passes.graph.model import Array
from passes.numerics.ridge import Rows, fit, fit_rows

ENOUGH = 32
"""Places for each feature beyond which more are not looked at."""
MANY = 16384
"""Places that are looked at however few features there are."""
TOGETHER = 2**25
"""Bytes of what a layer reads and gives whose moments are taken together."""
WIDE = 6144
"""Features from which on places are thinned out until there are fewer of them than features."""
SQUARE = 22
"""Bytes for each pair of features up to which this is not done sooner, for want of memory."""


def regress(
    layer: Layer, prior: Array, batches: Sequence[Batch], engine: Engine, most: float = math.inf
) -> tuple[Array, Array | None, float]:
    """Weights, shaped as the ``prior`` that the ridge pulls toward; bias; share of the targets' variance lost.

    ``most``: bytes that are taken at once, about, while moments are computed.
    """
    out, into = layer.weight_axes
    ordered = np.moveaxis(prior, (out, into), (0, -1))  # O taps... I
    groups = layer.groups
    toward = ordered.reshape(groups, len(ordered) // groups, -1)  # D over (tap, channel)
    features = toward.shape[-1]
    places = sum(y.size for _, y in batches) // len(ordered)
    stride = max(1, places // max(ENOUGH * features, MANY))
    if features > min(WIDE, math.sqrt(most / SQUARE)):
        stride = max(stride, -(-places // (features // 2)))
    stride += stride > 1 and stride % 2 == 0  # an odd one meets every column of an image
    window = Window(groups, ordered.shape[-1], stride)
    patches = 4 * groups * features * (places // stride)
    batches = Joined(_larger(_smaller(batches, patches, most), patches))
    biased = layer.shift is not None
    if places // stride < features:
        rows = layer_rows(layer, window, prior, batches, engine)
        halves = halves_of(batches)
        fits = [fit_rows(_halves_rows([r[g] for r in rows], halves), toward[g], biased) for g in range(groups)]
    else:
        moments = layer_moments(layer, window, prior, batches, engine)
        fits = [fit((moments[0][g], moments[1][g]), toward[g], biased) for g in range(groups)]
    solved = np.concatenate([f.weights for f in fits]).reshape(ordered.shape)
    weights = np.ascontiguousarray(np.moveaxis(solved, (0, -1), (out, into)), prior.dtype)
    bias = np.concatenate([f.intercept for f in fits]) if biased else None
    return weights, bias, float(np.mean([f.error for f in fits]))


class Joined(Sequence[Batch]):
    """Batches of several parts each, joined when they are asked for: copies of all would double what is held."""

    def __init__(self, parts: Sequence[Sequence[Batch]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> Joined: ...

    def __getitem__(self, index: int | slice) -> Batch | Joined:
        """The batches are made anew each time."""
        if isinstance(index, slice):
            return Joined(self._parts[index])
        part = self._parts[index]
        if len(part) == 1:
            return part[0]
        return np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part])


def _smaller(batches: Sequence[Batch], patches: int, most: float) -> list[Batch]:
    """The same samples in more batches, where a batch would take more than ``most``: patches are there twice when they
    are joined, and what is read three times, turned, padded and cut."""
    total = sum(4 * x.nbytes + 3 * y.nbytes for x, y in batches) + 2 * patches
    parts = math.ceil(total / len(batches) / max(1.0, most))
    found: list[Batch] = []
    for x, y in batches:
        step = max(1, -(-len(x) // max(1, parts))) if len(x) == len(y) else len(x)
        step += step > 1 and step % 2  # a sample and its mirror image stay together
        found += [(x[i : i + step], y[i : i + step]) for i in range(0, len(x), step)]
    return found


def _larger(batches: Sequence[Batch], patches: int) -> list[Sequence[Batch]]:
    """The same samples in fewer batches, two at least: each costs a matrix of moments. ``patches``: bytes of what the
    layer reads at once, everywhere on all samples."""
    each = (sum(x.nbytes + y.nbytes for x, y in batches) + patches) // len(batches)
    step = min(max(1, TOGETHER // max(1, each)), max(1, len(batches) // 2))
    return [batches[i : i + step] for i in range(0, len(batches), step)]


def _halves_rows(parts: Sequence[Rows], halves: Sequence[int]) -> tuple[Rows, Rows]:
    first, second = ([r for r, at in zip(parts, halves, strict=True) if at == half] for half in (0, 1))
    return _joined_rows(first), _joined_rows(second)


def _joined_rows(parts: Sequence[Rows]) -> Rows:
    return Rows(np.concatenate([r.p for r in parts]), np.concatenate([r.y for r in parts]))
