"""Measures noise over signal of a network's outputs, about each element's mean over the samples.

It is the sum of (result - original)^2 over the sum of (original - its mean over the samples)^2. Constant values
(anchors, priors, a background score) have no signal, however large they are, and hide no error. A result that is always
the mean has the value 1 for every network. Channels of different scale in one tensor, such as boxes in pixels and
scores in 0..1, are measured each by their own spread. The worst of them counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Double
from .tuning import NUMERICS, NoiseTuning

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Noise:
    """``nsr``: noise over signal of the worst channels that the samples test, or of all values if the samples test
    none; None where there is no signal. ``reason``: why the samples do not test the output. ``constant``: the output is
    the same for every sample, both in the original and in the result. ``scales``: number of groups of channels of
    similar scale among those that vary."""

    nsr: float | None
    reason: str | None = None
    constant: bool = False
    scales: int = 0
    error: float | None = None
    """Standard error of ``nsr`` relative to it, from the variation of the noise between samples. None if the samples
    test no channel."""
    by_sample: Double | None = field(default=None, compare=False, repr=False)
    """Noise over signal of each sample (samples,), whose mean is ``nsr``; None where no channel is tested."""


@dataclass(slots=True)
class _Sums:
    """For each index of one axis, over samples and all other axes: sums of (x - shift)^2 and (y - x)^2, smallest and
    largest x."""

    squares: Double
    noise: Double
    low: Double
    high: Double
    each: list[Double] = field(default_factory=list)
    """Sums of (y - x)^2, by sample: (samples, indices)."""

    @classmethod
    def of(cls, size: int) -> _Sums:
        return cls(np.zeros(size), np.zeros(size), np.full(size, np.inf), np.full(size, -np.inf))


@dataclass(frozen=True, slots=True)
class _Channels:
    """Statistics by index of an axis: sums of squares about the means (``power``) and about zero, of the noise, and
    extremes. ``values``: number of values of each index."""

    power: Double
    level: Double
    noise: Double
    low: Double
    high: Double
    values: int
    each: Double
    """The noise of each sample: (samples, channels)."""

    @property
    def spread(self) -> Double:
        return np.sqrt(self.power / self.values)

    def steps(self) -> tuple[NDArray[np.intp], Double]:
        """Indices in ascending order of spread, without those that do not vary, and the ratio of each spread to the one
        before."""
        order = np.argsort(self.power, kind="stable")
        order = order[self.power[order] > 0]
        spread = self.spread[order]
        return order, spread[1:] / spread[:-1]

    def scales(self, gap: float) -> Iterator[_Channels]:
        """Statistics of groups of channels of similar scale, each group as one channel. ``gap``: ratio of spreads
        between two groups."""
        order, ratios = self.steps()
        still = np.flatnonzero(self.power <= 0)
        for part in (still, *np.split(order, np.flatnonzero(ratios > gap) + 1)):
            if len(part):
                power, level, noise = (np.atleast_1d(a[part].sum()) for a in (self.power, self.level, self.noise))
                low, high = np.atleast_1d(self.low[part].min()), np.atleast_1d(self.high[part].max())
                each = self.each[:, part].sum(1, keepdims=True)
                yield _Channels(power, level, noise, low, high, self.values * len(part), each)


@dataclass(slots=True)
class NoiseMeter:
    """Accumulates samples of one output: `add` them, then read the `result`. Stores two arrays of the output's size."""

    samples: int = 0
    tuning: NoiseTuning = NUMERICS.noise
    _shift: Array | None = None
    """The first sample. Sums of deviations from it keep their precision where the values are large."""
    _sums: Double = field(default_factory=lambda: np.zeros(0))
    _axes: dict[int | None, _Sums] = field(default_factory=dict)
    _ragged: bool = False

    def add(self, exact: Array, now: Array) -> None:
        """Add samples of the output (n, ...) of the original and of the result, finite. Where sizes differ between
        samples or models, no element has a mean, and the result states so."""
        exact, now = (a.reshape(len(a), -1) if a.ndim < 2 else a for a in (exact, now))
        if self._shift is None and len(exact):
            self._shift = exact[0].copy()
            self._sums = np.zeros(exact.shape[1:])
            longest = self.tuning.longest_channels
            self._axes = {k: _Sums.of(size) for k, size in enumerate(exact.shape[1:]) if 2 <= size <= longest}
            self._axes[None] = _Sums.of(1)
        if self._shift is None or exact.shape != now.shape or exact.shape[1:] != self._shift.shape:
            self._ragged = self._ragged or len(exact) > 0
            return
        self.samples += len(exact)
        step = max(1, self.tuning.block // max(1, self._shift.size))
        for start in range(0, len(exact) if self._shift.size else 0, step):
            self._block(exact[start : start + step], now[start : start + step])

    def _block(self, exact: Array, now: Array) -> None:
        assert self._shift is not None
        x = exact.astype(np.float64)
        off = np.square(now - x)
        noise = off.sum(0)
        low, high = x.min(0), x.max(0)
        x -= self._shift
        self._sums += x.sum(0)
        squares = np.square(x).sum(0)
        for axis, sums in self._axes.items():
            sums.squares += _along(axis, squares, np.add)
            sums.noise += _along(axis, noise, np.add)
            sums.each.append(off.sum(tuple(k for k in range(1, off.ndim) if k - 1 != axis)).reshape(len(off), -1))
            np.minimum(sums.low, _along(axis, low, np.minimum), out=sums.low)
            np.maximum(sums.high, _along(axis, high, np.maximum), out=sums.high)

    def result(self) -> Noise:
        """The result for the samples so far."""
        if self._ragged:
            return Noise(None, "its size depends on the sample")
        if self._shift is None or self._shift.size == 0:
            return Noise(None, "it is empty", constant=True)
        if self.samples < 2:
            return Noise(None, "one sample shows no spread")
        found = [self._channels(axis) for axis in self._axes]
        widest = max(found, key=lambda c: max(c.steps()[1], default=1.0))
        ordinary = np.finfo(self._shift.dtype).eps if self._shift.dtype.kind == "f" else 0.0
        return _judged(list(widest.scales(self.tuning.scale_gap)), self.tuning, float(ordinary))

    def _channels(self, axis: int | None) -> _Channels:
        assert self._shift is not None
        count, sums, shift = self.samples, self._axes[axis], self._shift.astype(np.float64)
        power = np.maximum(sums.squares - _along(axis, np.square(self._sums) / count, np.add), 0)
        level = np.maximum(sums.squares + _along(axis, shift * (2 * self._sums + count * shift), np.add), 0)
        # Squares about the mean of n samples have n - 1 degrees of freedom.
        power *= count / (count - 1)
        values, each = count * shift.size // len(power), np.concatenate(sums.each)
        return _Channels(power, level, sums.noise, sums.low, sums.high, values, each)


def _along(axis: int | None, values: Double, join: np.ufunc) -> Double:
    """``values`` joined over all axes but one; over all of them, of shape (1,), for None."""
    others = tuple(k for k in range(values.ndim) if k != axis)
    joined: Double = np.atleast_1d(join.reduce(values, axis=others))
    return joined


def _judged(scales: list[_Channels], tuning: NoiseTuning, epsilon: float) -> Noise:
    """The worst of the groups of channels that the samples test. Scores in 0..1 must be among them, if there are any.

    ``epsilon``: of the output's type.
    """
    tested: list[tuple[float, bool, Double]] = []
    reasons: dict[bool, str] = {}
    constant, count, power, noise = True, 0, 0.0, 0.0
    for channels in scales:
        squares = (channels.power, channels.level, channels.noise)
        spread, level, off = (float(np.sqrt(v[0] / channels.values)) for v in squares)
        scores = channels.low[0] >= 0 and channels.high[0] <= 1
        power, noise = power + float(channels.power[0]), noise + float(channels.noise[0])
        varies = spread > tuning.rounding * epsilon * level
        count += varies  # of the original only: the kind of output does not depend on the result
        if not varies and off <= tuning.faint * level:
            continue
        constant = False
        if scores and channels.high[0] < tuning.unlikely:
            reasons.setdefault(True, f"none of its scores passes {tuning.unlikely:g}")
        elif spread < tuning.faint * level or spread == 0:
            reasons.setdefault(scores, f"it varies by {spread / level if level else 0:.1e} of its level")
        else:
            each = channels.each[:, 0] * (len(channels.each) / channels.power[0])
            tested.append((float(channels.noise[0] / channels.power[0]), scores, each))
    whole = noise / power if power > 0 else None
    if not tested:
        reason = next(iter(reasons.values()), "it is the same for every sample")
        return Noise(whole, reason, constant, scales=count)
    missing = True in reasons and not any(scores for _, scores, _ in tested)
    ratio, _, each = max(tested, key=lambda found: found[0])
    return Noise(ratio, reasons[True] if missing else None, scales=count, error=_relative_error(each), by_sample=each)


def _relative_error(values: Double) -> float:
    """Standard error of the mean of independent ``values`` (n,), relative to the mean; n is at least 2."""
    mean = float(values.mean())
    return float(values.std(ddof=1) / np.sqrt(len(values))) / mean if mean > 0 else 0.0
