"""Measures what the parts of an output lose in a model whose layers are still to be solved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from passes.graph.model import Array
from passes.numerics.tuning import NUMERICS
from passes.settings.allocation_tuning import SensitivityTuning


class ExactOutput:
    """One output of the original, that of many changed models is compared with.

    ``exact``: its batches (n, ...); ``parts``: the part 0, 1, ... of each element of a sample, flattened; ``weights``:
    of the elements in each batch, as arrays that broadcast to it.
    """

    def __init__(
        self, exact: Sequence[Array], parts: Array, tuning: SensitivityTuning, weights: Sequence[Array] = ()
    ) -> None:
        self._exact = [np.atleast_1d(v) for v in exact]
        whole = zip(weights, self._exact, strict=bool(weights))
        self._roots = [np.broadcast_to(np.sqrt(w), v.shape).astype(np.float16) for w, v in whole]
        self._parts, self._tuning = parts, tuning
        self._count = int(parts.max(initial=0)) + 1
        self._blocks = _blocks(self._exact, tuning.block)
        self._whole: Array | None = None
        """Centred values, where they are one block."""
        if not self._comparable:
            return
        level, power = np.zeros(self._count), np.zeros(self._count)
        for where in self._blocks:
            with np.errstate(invalid="ignore", over="ignore"):  # masked scores are infinite
                a = _values_of_all(self._exact, where)
                level += np.bincount(parts[where], _squares(a), self._count)
                a = self._weighed(a - a.mean(0), where)
                power += np.bincount(parts[where], _squares(a), self._count)
                self._whole = a if len(self._blocks) == 1 else None
        rounding = NUMERICS.noise.rounding * float(np.finfo(self._exact[0].dtype).eps)
        self._power, self._varies = power, power > np.square(rounding) * level

    @property
    def _comparable(self) -> bool:
        return len({v.shape[1:] for v in self._exact}) == 1

    def losses(self, now: Sequence[Array]) -> list[float]:
        """Noise over signal (1 - r^2) / r^2 of each part that varies over the samples, at most
        `SensitivityTuning.most_noise`. Empty if the sizes of the output differ between batches.

        r is the correlation of the part's values before and after, about the mean of each element over the samples.
        Unlike the squared error over the variance the ratio keeps growing when little is left of an output. The noise
        of several groups adds up.

        ``now``: batches (n, ...) of the changed model.
        """
        now = [np.atleast_1d(v) for v in now]
        if not self._comparable:
            return []
        count, explained = self._count, np.zeros(self._count)
        if all(a.shape == b.shape for a, b in zip(self._exact, now, strict=True)):
            found, common = np.zeros(count), np.zeros(count)
            for where in self._blocks:
                with np.errstate(invalid="ignore", over="ignore"):  # a cut model may overflow
                    a, b = self._centred(where), _values_of_all(now, where)
                    b = self._weighed(b - b.mean(0), where)
                    found += np.bincount(self._parts[where], _squares(b), count)
                    b *= a
                    common += np.bincount(self._parts[where], b.sum(0), count)
            valid = self._varies & (found > 0) & np.isfinite(found)
            explained[valid] = np.square(common[valid]) / (self._power[valid] * found[valid])
        explained = np.clip(explained[self._varies], 1 / self._tuning.most_noise, 1.0)
        return [float(x) for x in (1 - explained) / explained]

    def _centred(self, where: slice) -> Array:
        if self._whole is not None:
            return self._whole
        a = _values_of_all(self._exact, where)
        return self._weighed(a - a.mean(0), where)

    def _weighed(self, centred: Array, where: slice) -> Array:
        return np.asarray(centred * _values_of_all(self._roots, where) if self._roots else centred)


def _blocks(batches: Sequence[Array], most: int) -> list[slice]:
    """Slices of the elements of a sample, each of about ``most`` values of all samples, to save memory."""
    width, samples = math.prod(batches[0].shape[1:]), sum(map(len, batches))
    step = max(1, most // max(1, samples))
    return [slice(start, start + step) for start in range(0, width, step)]


def _values_of_all(batches: Sequence[Array], where: slice) -> Array:
    """Values (N, elements) of all samples, as float64."""
    flat = [v.reshape(len(v), math.prod(v.shape[1:]))[:, where] for v in batches]
    return np.concatenate(flat, dtype=np.float64)


def _squares(values: Array) -> Array:
    return np.asarray(np.square(values).sum(0))
