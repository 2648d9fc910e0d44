"""Choose which samples are held out: results are measured on them, and nothing is fitted to them.

A split depends only on the number of samples, the number held out, and the seed. It can be reproduced from these three.
``total`` counts samples in the order in which `onnx_merge.calibration.load.load_calibration` returns them, without
those that repeat earlier ones (see `first_of_each`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.array_files import evenly_spaced_rows
from onnx_merge.tuning.calibration import SPLITS
from passes.numerics.arrays import has_rows, rows_between, sample_count
from passes.samples.sample_files import release_pages, samples_at

Array = NDArray[Any]
HELD_OUT_SEED = 2**31
"""Offset of the seed of synthetic samples to measure on. Those to fit to use the seed itself and a few after it."""


def share_apart(count: int) -> int:
    """The default number held out: an eighth of ``count``, but 16 to 256."""
    return min(max(-(-count // SPLITS.held_out_share), SPLITS.fewest), SPLITS.most)


def to_load(count: int, *, half: bool = False, promise: bool = False, beside: int = 0) -> int:
    """The number of samples to load so that ``count`` can be fitted to, and ``beside`` others held out."""
    return count + (SPLITS.guaranteed if promise else count if half else max(beside, share_apart(count)))


def held_count(total: int, count: int, *, half: bool = False, unit: int = 1) -> int:
    """How many of ``total`` samples to hold out, at most ``count`` of the others being fitted to; 0 if they are too few
    to split.

    If the samples left over after taking ``count`` are at least an eighth of ``count`` (16 to 256), all of them are
    held out; otherwise an eighth of all samples, 16 to 256. With ``half``, half of all samples are held out, or all
    that are left over if these are more. ``unit`` is the number of samples that pass through the model together because
    its batch size is fixed. Whole batches are held out; if they have several samples, at least two batches remain to be
    fitted to.
    """
    runs, left = total // unit, 1 if unit == 1 else 2
    surplus = total - count
    if half:
        wanted, least = max(total // 2, surplus), 1
    elif surplus >= share_apart(count):
        wanted, least = surplus, SPLITS.fewest
    elif total >= 2 * SPLITS.fewest:
        wanted, least = share_apart(total), SPLITS.fewest
    else:
        return 0
    held = min(-(-wanted // unit), runs - left) * unit
    return held if held >= least else 0


def held_rows(total: int, held: int, seed: int, unit: int = 1) -> NDArray[np.int64]:
    """Indices of the ``held`` samples of ``total`` to hold out, ascending, of shape (held,).

    The samples are divided into ``held`` intervals of equal length, and one is drawn at random from each. The intervals
    keep the classes balanced in files sorted by class; the random choice avoids periodic patterns. ``held`` is a
    multiple of ``unit``, whose samples stay together.
    """
    runs, apart = total // unit, held // unit
    edges = np.arange(apart + 1) * runs // max(1, apart)
    rng = np.random.default_rng([seed, total, held])
    picked = edges[:-1] + (rng.random(apart) * np.diff(edges)).astype(np.int64)
    rows: NDArray[np.int64] = (picked[:, None] * unit + np.arange(unit)).reshape(-1)
    return rows


def parted(feeds: Mapping[str, Array], rows: NDArray[np.int64]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The samples of ``feeds`` (N, ...) without those at ``rows``, and those at ``rows``. Arrays without a sample axis
    are in both."""
    total = sample_count(feeds)
    others = np.delete(np.arange(total), rows)
    return samples_at(feeds, others), samples_at(feeds, rows)


def found_in(feeds: Mapping[str, Array], others: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Which samples of ``feeds`` (N, ...) are also among ``others``, compared bit by bit: a mask (N,)."""
    known = set(_digests(others))
    return np.array([digest in known for digest in _digests(feeds)], bool)


def first_of_each(feeds: Mapping[str, Array], unit: int = 1) -> NDArray[np.int64]:
    """Indices of the samples of ``feeds`` (N, ...) that repeat no earlier one bit by bit, ascending.

    ``unit``: see `held_count`. Samples that pass through the model together may depend on each other, as frames of a
    clip do. So they are left out together, if each of them repeats an earlier one.
    """
    digests, known, first = _digests(feeds), set[bytes](), list[int]()
    for start in range(0, len(digests), unit):
        run = digests[start : start + unit]
        if not known.issuperset(run):
            first += range(start, start + len(run))
            known.update(run)
    return np.array(first, np.int64)


def _digests(feeds: Mapping[str, Array]) -> list[bytes]:
    arrays = {name: feeds[name] for name in sorted(feeds) if has_rows(feeds[name])}
    found = []
    for k in range(sample_count(feeds)):
        digest = hashlib.blake2b(digest_size=16)
        for row in rows_between(arrays, k, k + 1).values():
            digest.update(f"{row.shape}".encode())
            digest.update(repr(row.tolist()).encode() if row.dtype == object else np.ascontiguousarray(row).tobytes())
        found.append(digest.digest())
        release_pages()
    return found


def evenly_spaced(feeds: Mapping[str, Array], count: int) -> dict[str, Array]:
    """``count`` samples (N, ...), evenly spaced because files are often sorted by class; all of them if there are no
    more."""
    total = sample_count(feeds)
    return samples_at(feeds, evenly_spaced_rows(total, count)) if total > count else dict(feeds)
