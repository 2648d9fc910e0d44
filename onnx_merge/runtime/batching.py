"""Samples that go through a model together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.runtime.session import TensorInfo
from passes.numerics.arrays import has_rows

Array = NDArray[Any]
CHUNK_BYTES = 8 * 2**20
"""Input of one run, at most: activations take some hundred times as much memory."""
CHUNK_SAMPLES = 128


@dataclass(frozen=True)
class BatchSize:
    """Samples that go through a model at once, where it leaves their number open: at most ``most``, and a multiple of
    ``unit``, for instance of the frames of a clip."""

    most: int = CHUNK_SAMPLES
    unit: int = 1


ANY = BatchSize()
ONE = BatchSize(1)


def batches(
    feeds: Mapping[str, Array], inputs: Sequence[TensorInfo], batch: BatchSize = ANY
) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Cut ``feeds`` into batches: (feeds of one run, its size, how many of its first samples count).

    A fixed batch size is kept, and a multiple of ``batch.unit`` where it is open: the last batch is filled up with
    copies of the last sample. Inputs that do not share their first dim are one run, which counts as one sample.
    """
    counts = {len(a) for a in feeds.values() if has_rows(a)}
    fixed = {i.shape[0] for i in inputs if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0}
    if len(counts) != 1 or len(fixed) > 1:
        yield dict(feeds), 1, 1
        return
    count = counts.pop()
    per_sample = max(1, sum(a.nbytes for a in feeds.values()) // max(count, 1))
    unit = next(iter(fixed), batch.unit)
    most = unit if fixed else min(batch.most, CHUNK_SAMPLES, CHUNK_BYTES // per_sample)
    step = max(1, most // unit) * unit
    for start in range(0, count, step):
        valid = min(step, count - start)
        size = -(-valid // unit) * unit
        rows = np.minimum(np.arange(start, start + size), count - 1)
        yield {n: a[rows] if has_rows(a) else a for n, a in feeds.items()}, size, valid
