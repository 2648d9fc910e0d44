"""Divide samples into the batches that a model is run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import BATCHES, BatchTuning
from passes.numerics.arrays import has_rows

Array = NDArray[Any]


@dataclass(frozen=True)
class BatchSize:
    """The batch size to use if the model leaves it open: at most ``most``, and a multiple of ``unit``, for instance of
    the frames of a video clip."""

    most: int = BATCHES.samples
    unit: int = 1


ANY = BatchSize()
ONE = BatchSize(1)


def batches(
    feeds: Mapping[str, Array], inputs: Sequence[TensorInfo], batch: BatchSize = ANY, tuning: BatchTuning = BATCHES
) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Divide ``feeds`` into batches: (feeds of one run, batch size, number of valid samples, which come first).

    A fixed batch size is kept; an open one is a multiple of ``batch.unit``. The last batch is padded with copies of the
    last sample. Inputs with different first dimensions are run at once and count as one sample.
    """
    counts = {len(a) for a in feeds.values() if has_rows(a)}
    fixed = {i.shape[0] for i in inputs if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0}
    if len(counts) != 1 or len(fixed) > 1:
        yield dict(feeds), 1, 1
        return
    count = counts.pop()
    per_sample = max(1, sum(a.nbytes for a in feeds.values()) // max(count, 1))
    unit = next(iter(fixed), batch.unit)
    most = unit if fixed else min(batch.most, tuning.samples, tuning.bytes // per_sample)
    step = max(1, most // unit) * unit
    for start in range(0, count, step):
        valid = min(step, count - start)
        size = -(-valid // unit) * unit
        rows = np.minimum(np.arange(start, start + size), count - 1)
        yield {n: a[rows] if has_rows(a) else a for n, a in feeds.items()}, size, valid
