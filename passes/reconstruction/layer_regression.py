"""Solves one layer by ridge regression from the moments of its inputs and targets.

    min over W', b':  sum over places ||y - W' p' - b'||^2 + ridge ||W' - prior||^2

p' are patches of the layer's input, y its targets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from passes.graph.model import Array
from passes.interface.engine import Engine
from passes.numerics.ridge import SampleRows, fit, fit_rows
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.im2col import thinned
from passes.statistics.lazy import Lazy
from passes.statistics.linear_layers import LinearLayer
from passes.statistics.moments import Batch, halves_of, layer_moments, layer_rows


@dataclass(frozen=True)
class LayerFit:
    """``weights``, and ``bias`` or None; ``error``: share of the targets' variance that is lost; ``strength``: of the
    ridge, relative to the features' second moments, with which one half of the samples predicts the other best (the
    largest of the groups)."""

    weights: Array
    bias: Array | None
    error: float
    strength: float


def regress(
    layer: LinearLayer,
    prior: Array,
    batches: Sequence[Batch],
    engine: Engine,
    most: float = math.inf,
    tuning: Tuning = TUNING,
    workers: int = 1,
) -> LayerFit:
    """Solve ``layer`` for its targets.

    ``prior``: weights toward which the ridge penalty shrinks; ``most``: approximate limit in bytes on the memory in use
    while moments are computed; ``workers``: most batches that run at the same time.
    """
    out, into = layer.weight_axes
    ordered = np.moveaxis(prior, (out, into), (0, -1))  # O taps... I
    groups = layer.groups
    toward = ordered.reshape(groups, len(ordered) // groups, -1)  # D over (tap, channel)
    features = toward.shape[-1]
    extents = [_Extent.of(batch) for batch in batches]
    places = sum(e.size_made for e in extents) // len(ordered)
    limits, ridge = tuning.reconstruction, tuning.numerics.ridge
    stride = stride_of(features, places, limits)
    if features > min(limits.most_primal_features, math.sqrt(most / limits.primal_bytes)):
        stride = max(stride, -(-places // (features // 2)))
    stride += stride > 1 and stride % 2 == 0  # an odd stride visits every column of an image
    window = thinned(groups, ordered.shape[-1], stride, extents[0].others[1][1:] if layer.convolves else ())
    patches = 4 * groups * features * (places // stride)
    total = sum(e.bytes_read + e.bytes_made for e in extents) + patches
    each = 4 * limits.joined_bytes / workers + 8 * groups * features**2  # of a batch, with its matrices
    workers = max(1, int(min(workers, most / each)))
    fewest = max(2, workers + workers % 2)  # about as many in both halves
    joined = _larger(_smaller(extents, patches, most), total, limits.joined_bytes // workers, fewest)
    alike = [itertools.groupby(parts, lambda part: extents[part[0]].others) for parts in joined]
    together = [list(parts) for groups in alike for _, parts in groups]
    batches = Lazy([partial(_join_batches, batches, parts) for parts in together])
    biased = layer.shift is not None
    if places // stride < features and len(batches) > 1:
        rows = layer_rows(layer, window, prior, batches, engine)
        halves = halves_of(batches)
        sides = [_halves_rows([r[g] for r in rows], halves) for g in range(groups)]
        fits = [fit_rows(side, toward[g], biased, ridge) for g, side in enumerate(sides)]
    else:
        moments = layer_moments(layer, window, prior, batches, engine, tuning.statistics, workers)
        fits = [fit((moments[0][g], moments[1][g]), toward[g], biased, ridge) for g in range(groups)]
    solved = np.concatenate([f.weights for f in fits]).reshape(ordered.shape)
    weights = np.ascontiguousarray(np.moveaxis(solved, (0, -1), (out, into)), prior.dtype)
    bias = np.concatenate([f.intercept for f in fits]) if biased else None
    error, strength = float(np.mean([f.error for f in fits])), max(f.strength for f in fits)
    return LayerFit(weights, bias, error, strength)


def stride_of(features: int, places: int, tuning: ReconstructionTuning = TUNING.reconstruction) -> int:
    """Stride between the places that are used, for so many ``features`` and ``places``."""
    return max(1, places // max(tuning.regression_places * features, tuning.fewest_regression_places))


@dataclass(frozen=True)
class _Extent:
    """Numbers of samples in a batch of inputs and of targets; their bytes; elements of the targets; sizes of the other
    axes, of which one may be that of the samples, as in a sequence-first layer (S, N, C)."""

    read: int
    made: int
    bytes_read: int
    bytes_made: int
    size_made: int
    others: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, batch: Batch) -> _Extent:
        x, y, _ = batch
        return cls(len(x), len(y), x.nbytes, y.nbytes, y.size, (x.shape[1:], y.shape[1:]))


_Part = tuple[int, int, int]
"""Index of a batch, and the range of its samples: (batch, start, end)."""


def _smaller(extents: Sequence[_Extent], patches: int, most: float) -> list[_Part]:
    """Split batches that would take more than ``most`` bytes.

    While patches are joined, two copies of them exist. The input has three more copies: transposed, padded and sliced.
    """
    total = sum(4 * e.bytes_read + 3 * e.bytes_made for e in extents) + 2 * patches
    parts = max(math.ceil(total / len(extents) / max(1.0, most)), 2 if len(extents) == 1 else 1)  # for two halves
    found: list[_Part] = []
    for k, e in enumerate(extents):
        step = max(1, -(-e.read // max(1, parts))) if e.read == e.made else e.read
        step += step > 1 and step % 2  # a sample and its mirror image stay together
        found += [(k, i, i + step) for i in range(0, e.read, step)]
    return found


def _larger(parts: Sequence[_Part], total: int, joined: int, fewest: int) -> list[Sequence[_Part]]:
    """Join small batches, since each batch costs a matrix of moments. At least ``fewest`` batches remain.

    ``total``: bytes of inputs, targets and patches of all samples; ``joined``: approximate bytes of a joined batch.
    """
    each = total // len(parts)
    step = min(max(1, joined // max(1, each)), max(1, len(parts) // fewest))
    return [parts[i : i + step] for i in range(0, len(parts), step)]


def _join_batches(batches: Sequence[Batch], parts: Sequence[_Part]) -> Batch:
    """The joined batch. It is computed at each access: all of them together would double the memory in use."""
    found: list[Batch] = []
    for k, start, end in parts:
        x, y, roots = batches[k]
        found.append(Batch(x[start:end], y[start:end], None if roots is None else roots[start:end]))
    if len(found) == 1:
        return found[0]
    x, y = (np.concatenate([batch[k] for batch in found]) for k in (0, 1))
    weighed = [batch.roots for batch in found if batch.roots is not None]
    return Batch(x, y, np.concatenate(weighed) if weighed else None)


def _halves_rows(parts: Sequence[SampleRows], halves: Sequence[int]) -> tuple[SampleRows, SampleRows]:
    first, second = ([r for r, at in zip(parts, halves, strict=True) if at == half] for half in (0, 1))
    return _joined_rows(first), _joined_rows(second)


def _joined_rows(parts: Sequence[SampleRows]) -> SampleRows:
    return SampleRows(np.concatenate([r.p for r in parts]), np.concatenate([r.y for r in parts]))
