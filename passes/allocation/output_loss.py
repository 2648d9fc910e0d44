"""Measures what the parts of an output lose in a model whose layers are still to be solved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from passes.graph.model import Array
from passes.numerics.tuning import NUMERICS
from passes.settings.tuning import SensitivityTuning


def losses_of_parts(
    exact: Sequence[Array], now: Sequence[Array], parts: Array, tuning: SensitivityTuning
) -> list[float]:
    """Noise over signal (1 - r^2) / r^2 of each part that varies over the samples, at most
    `SensitivityTuning.most_noise`. Empty if the sizes of the output differ between batches.

    r is the correlation of the part's values before and after, about the mean of each element over the samples. Unlike
    the squared error over the variance the ratio keeps growing when little is left of an output. The noise of several
    groups adds up.

    ``exact``, ``now``: batches (n, ...) of one output of the original and of the changed model; ``parts``: the part 0,
    1, ... of each element of a sample, flattened.
    """
    exact, now = ([np.atleast_1d(v) for v in batches] for batches in (exact, now))
    if len({v.shape[1:] for v in exact}) > 1:
        return []
    count = int(parts.max(initial=0)) + 1
    level, power, found, common = (np.zeros(count) for _ in range(4))
    alike = all(a.shape == b.shape for a, b in zip(exact, now, strict=True))
    for where, a, b in _blocks(exact, now if alike else exact, tuning.block):
        index = parts[where]
        with np.errstate(invalid="ignore", over="ignore"):  # a cut model may overflow, and masked scores are infinite
            level += np.bincount(index, np.square(a).sum(0), count)
            a, b = a - a.mean(0), b - b.mean(0)
            power += np.bincount(index, np.square(a).sum(0), count)
            found += np.bincount(index, np.square(b).sum(0), count)
            common += np.bincount(index, (a * b).sum(0), count)
    rounding = NUMERICS.noise.rounding * float(np.finfo(exact[0].dtype).eps)
    varies = power > np.square(rounding) * level
    explained = np.zeros(count)
    valid = varies & (found > 0) & np.isfinite(found) & alike
    explained[valid] = np.square(common[valid]) / (power[valid] * found[valid])
    explained = np.clip(explained[varies], 1 / tuning.most_noise, 1.0)
    return [float(x) for x in (1 - explained) / explained]


def _blocks(exact: Sequence[Array], now: Sequence[Array], most: int) -> Iterator[tuple[slice, Array, Array]]:
    """Slices of the elements of a sample with both values (N, elements) there, as float64, of about ``most`` values of
    all samples, to save memory."""
    flat = [[v.reshape(len(v), math.prod(v.shape[1:])) for v in batches] for batches in (exact, now)]
    width, samples = flat[0][0].shape[1], sum(map(len, exact))
    step = max(1, most // max(1, samples))
    for start in range(0, width, step):
        where = slice(start, start + step)
        a, b = (np.concatenate([v[:, where].astype(np.float64) for v in batches]) for batches in flat)
        yield where, a, b
