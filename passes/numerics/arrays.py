"""Checks and converts the arguments of the kernels in this folder.

Numba compiles a kernel again for another dtype, memory order, alignment or writability. Here all arrays get the same.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Single: TypeAlias = NDArray[np.float32]
Double: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


class Rows(Protocol):
    """An array, or an object that converts to one."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __len__(self) -> int:
        """Size of the first axis."""


def has_rows(values: Rows) -> bool:
    """Whether the first axis of an input's values can be the sample axis: it exists and is not empty."""
    return values.ndim > 0 and len(values) > 0


class RowSet:
    """Rows (C, D) that have passed `as_rows` once, with their norms once computed (see `row_norms`)."""

    def __init__(self, values: ArrayLike) -> None:
        self.values = as_rows(values)
        self.norms: dict[int, Double] = {}


def sample_count(feed: Mapping[str, Rows]) -> int:
    """The number of samples N. An input has N rows, or a multiple where a sample takes several, as a recurrent state
    (layers, 1, units) does. 0 where no input has rows."""
    return math.gcd(*(len(array) for array in feed.values() if has_rows(array)))


def samples_in(feed: Mapping[str, Rows]) -> int:
    """The number of samples in a batch; inputs without rows make one."""
    return sample_count(feed) or 1


def rows_between(feed: Mapping[str, NDArray[Any]], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """The samples from ``start`` to ``stop`` of a batch: rows of its arrays (see `sample_count`), others as they
    are."""
    count = sample_count(feed)
    each = {name: len(array) // count for name, array in feed.items() if has_rows(array)}
    return {n: a[start * each[n] : stop * each[n]] if n in each else a for n, a in feed.items()}


def parts_of(feed: Mapping[str, NDArray[Any]], size: int, unit: int = 1) -> list[dict[str, NDArray[Any]]]:
    """A batch in parts of about equal numbers of samples: multiples of ``unit``, but for the last one, and at most
    ``size``, or one unit where that is more."""
    count = samples_in(feed)
    units = math.ceil(count / unit)
    parts = math.ceil(units / max(1, size // unit))
    edges = [min(count, units * k // parts * unit) for k in range(parts + 1)]
    return [rows_between(feed, start, end) for start, end in itertools.pairwise(edges)]


def samples_joined(feeds: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The samples of several batches as one."""
    return {n: np.concatenate([feed[n] for feed in feeds]) if has_rows(a) else a for n, a in feeds[0].items()}


def batches_joined(batches: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A tensor's batches as one. The samples lie on the axis along which the sizes differ, as of a sequence-first layer
    (S, N, C) whose last batch is smaller; where none does, the first axis serves."""
    sizes = zip(*(array.shape for array in batches), strict=True)
    axis = next((k for k, of_axis in enumerate(sizes) if len({*of_axis}) > 1), 0)
    return np.concatenate(batches, axis)


def as_rows(values: ArrayLike | RowSet, ndim: int = 2) -> Single:
    """Return ``values`` as C-contiguous, aligned, writable float32; a copy only where it is not so already.

    Raises ValueError for another number of dimensions, and for NaN, infinity or values beyond float32's range.
    """
    if isinstance(values, RowSet):
        return values.values
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused below
        rows = np.require(np.asarray(values), np.float32, ["C", "A", "W"])
    if rows.ndim != ndim:
        raise ValueError(f"expected an array of {ndim} dimensions, got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("the rows hold NaN, infinity or values beyond float32's range")
    return rows


def as_doubles(values: ArrayLike, shape: tuple[int, ...]) -> Double:
    """Return ``values`` as C-contiguous, aligned, writable float64 of that shape; -1 stands for any size.

    Raises ValueError for another shape, and for NaN or infinity.
    """
    doubles = np.require(np.asarray(values), np.float64, ["C", "A", "W"])
    sizes = zip(shape, doubles.shape, strict=False)
    if doubles.ndim != len(shape) or any(want not in (-1, have) for want, have in sizes):
        raise ValueError(f"expected shape {shape}, got {doubles.shape}")
    if not np.isfinite(doubles).all():
        raise ValueError("the values hold NaN or infinity")
    return doubles


def as_channels(indices: ArrayLike, channels: int) -> Index:
    """Return ``indices`` as a vector of int64. Raises ValueError unless each is in [0, channels)."""
    vector = np.asarray(indices)
    if vector.ndim != 1 or (vector.size and not np.issubdtype(vector.dtype, np.integer)):
        raise ValueError(f"expected a vector of channel indices, got shape {vector.shape} of {vector.dtype}")
    if vector.size and not 0 <= int(vector.min()) <= int(vector.max()) < channels:
        raise ValueError(f"channel indices outside [0, {channels})")
    return np.require(vector, np.int64, ["C", "A", "W"])


def check_keep(keep: int, channels: int) -> None:
    """Raise ValueError unless 1 <= keep <= channels."""
    if not 1 <= keep <= channels:
        raise ValueError(f"cannot keep {keep} of {channels} channels")
