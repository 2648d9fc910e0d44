"""Which samples are kept apart: outputs are measured on them, and nothing is fitted to them.

A split is a function of how many samples there are, how many are kept apart of them, and the seed, and of nothing else,
so that whoever knows the three finds the same split again. ``total`` samples are told in the order in which
`onnx_merge.calibration.load.load_calibration` gives them; asked for ``total`` again, it gives the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.inputs.feeds import rows_of
from passes.numerics.arrays import has_rows

Array = NDArray[Any]
SHARE = 8
"""One sample in so many is kept apart."""
LEAST, MOST = 16, 256
"""Samples that are kept apart at least and at most. By Clopper and Pearson 16 without a change bound the share of
changes by 0.2; 256 settle a share of classes to within 0.06."""
PROMISED = 4096
"""Samples to keep apart for a promise, where there are so many: of 1 point at confidence 0.95, kept by a model that
loses half a point, it takes some 1,500."""
MEASURED = 2**31
"""What is added to the seed for made-up samples to measure on: those to fit to have the seed itself and a few after."""


def share_apart(count: int) -> int:
    """An eighth of ``count``, 16 to 256."""
    return min(max(-(-count // SHARE), LEAST), MOST)


def to_load(count: int, *, half: bool = False, promise: bool = False) -> int:
    """How many samples to ask for so that ``count`` can be fitted to."""
    return count + (PROMISED if promise else count if half else share_apart(count))


def held_count(total: int, count: int, *, half: bool = False, unit: int = 1) -> int:
    """How many of ``total`` samples to keep apart, at most ``count`` of the others being fitted to; 0: they are too
    few to divide.

    What is left over when ``count`` are taken, if that is an eighth of them; else an eighth of all, 16 to 256. With
    ``half``, half of them, or all that is left over. ``unit``: samples that go through the model together, since its
    batch is fixed; whole batches are kept apart, and two are left at least.
    """
    runs, left = total // unit, 1 if unit == 1 else 2
    surplus = total - count
    if half:
        wanted, least = max(total // 2, surplus), 1
    elif surplus >= share_apart(count):
        wanted, least = surplus, LEAST
    elif total >= 2 * LEAST:
        wanted, least = share_apart(total), LEAST
    else:
        return 0
    held = min(-(-wanted // unit), runs - left) * unit
    return held if held >= least else 0


def held_rows(total: int, held: int, seed: int, unit: int = 1) -> NDArray[np.int64]:
    """The ``held`` of ``total`` samples to keep apart, ascending (held,): one at random of each of as many stretches
    of equal length, since files are often sorted by class, and some repeat themselves every few samples.

    ``held`` is a multiple of ``unit``, whose samples stay together.
    """
    runs, apart = total // unit, held // unit
    edges = np.arange(apart + 1) * runs // max(1, apart)
    rng = np.random.default_rng([seed, total, held])
    picked = edges[:-1] + (rng.random(apart) * np.diff(edges)).astype(np.int64)
    rows: NDArray[np.int64] = (picked[:, None] * unit + np.arange(unit)).reshape(-1)
    return rows


def parted(feeds: Mapping[str, Array], rows: NDArray[np.int64]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The samples of ``feeds`` (N, ...) but those of ``rows``, and those; what has no rows is in both."""
    total = rows_of(feeds)
    others = np.delete(np.arange(total), rows)
    first, second = ({n: a[k] if has_rows(a) else a for n, a in feeds.items()} for k in (others, rows))
    return first, second


def found_in(feeds: Mapping[str, Array], others: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Which samples of ``feeds`` (N, ...) are among ``others`` too, bit by bit: (N,)."""
    known = set(_digests(others))
    return np.array([digest in known for digest in _digests(feeds)], bool)


def _digests(feeds: Mapping[str, Array]) -> list[bytes]:
    arrays = [feeds[name] for name in sorted(feeds) if has_rows(feeds[name])]
    found = []
    for k in range(rows_of(feeds)):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            row = array[k : k + 1]
            digest.update(f"{row.shape}".encode())
            digest.update(repr(row.tolist()).encode() if row.dtype == object else np.ascontiguousarray(row).tobytes())
        found.append(digest.digest())
    return found


def evenly_spaced(feeds: Mapping[str, Array], count: int) -> dict[str, Array]:
    """``count`` samples evenly spaced over all of them (N, ...), since files are often sorted by class; all if they are
    no more."""
    total = rows_of(feeds)
    if total <= count:
        return dict(feeds)
    rows = np.linspace(0, total - 1, count).round().astype(int)
    return {name: array[rows] if has_rows(array) else array for name, array in feeds.items()}
