"""Interval arithmetic on arrays. An interval holds whatever the input of the model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.settings.tuning import TUNING


@dataclass(frozen=True)
class Interval:
    """Lowest and highest values, float64 arrays of one shape: (C,) for channels, or that of a tensor, where an axis of
    length one stands for all its places."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """Where there is one value only, bool."""
        with np.errstate(invalid="ignore"):
            width, size = self.high - self.low, np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(np.isfinite(size) & (width <= TUNING.redundancy.constant_width * size))

    @property
    def zero(self) -> Array:
        """Where the only value is 0, bool."""
        return np.asarray((self.low == 0) & (self.high == 0))

    @property
    def middle(self) -> Array:
        """The value where there is one only, 0 elsewhere."""
        low, high = (np.where(self.constant, end, 0.0) for end in (self.low, self.high))
        return np.asarray((low + high) / 2)


def unbounded(*shape: int) -> Interval:
    """No bounds."""
    return Interval(np.full(shape, -np.inf), np.full(shape, np.inf))


def exactly(values: Array) -> Interval:
    """The interval of known values. NaN has no bounds."""
    known = values.astype(np.float64)
    return Interval(known, known)


def bounded_where(known: Array, values: Array) -> Interval:
    """``values`` where they are ``known``; no bounds elsewhere."""
    return Interval(np.where(known, values, -np.inf), np.where(known, values, np.inf))


def enclosing(intervals: Sequence[Interval]) -> Interval:
    """The smallest interval that contains all the given ones, element by element."""
    return Interval(_all(np.minimum, [i.low for i in intervals]), _all(np.maximum, [i.high for i in intervals]))


def added(intervals: Sequence[Interval]) -> Interval:
    """The sum."""
    with np.errstate(invalid="ignore"):  # infinite numbers of both signs, which a mask may hold
        return Interval(_all(np.add, [i.low for i in intervals]), _all(np.add, [i.high for i in intervals]))


def subtracted(first: Interval, second: Interval) -> Interval:
    """The difference."""
    return added([first, Interval(-second.high, -second.low)])


def multiplied(first: Interval, second: Interval) -> Interval:
    """The product. Zero times a value that has no bound, and is finite, is zero."""
    given = np.broadcast_arrays(first.low, first.high, second.low, second.high)
    with np.errstate(invalid="ignore"):
        ends = np.stack([given[i] * given[k] for i in (0, 1) for k in (2, 3)])
    known = ~np.isnan(np.stack(given)).any(axis=0)
    ends = np.where(np.isnan(ends) & known, 0.0, ends)
    return Interval(ends.min(axis=0), ends.max(axis=0))


def affine(interval: Interval, a: Array, t: Array) -> Interval:
    """a x + t."""
    with np.errstate(invalid="ignore"):
        ends = np.stack([interval.low, interval.high]) * a
    ends = np.where(a == 0, 0.0, ends) + t  # 0 times infinity is 0 here: the weight is exactly zero
    return Interval(ends.min(axis=0), ends.max(axis=0))


def _all(combine: np.ufunc, arrays: Sequence[Array]) -> Array:
    found = arrays[0]
    for array in arrays[1:]:
        found = combine(found, array)
    return np.asarray(found)
