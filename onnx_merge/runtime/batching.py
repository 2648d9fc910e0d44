"""Divide samples into the batches that a model is run on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import BATCHES, BatchTuning
from passes.numerics.arrays import has_rows, sample_count
from passes.samples.sample_files import samples_at

Array = NDArray[Any]


@dataclass(frozen=True)
class BatchSize:
    """The batch size to use if the model leaves it open: at most ``most``, and a multiple of ``unit``, for instance of
    the frames of a video clip."""

    most: int = BATCHES.samples
    unit: int = 1


ANY = BatchSize()
ONE = BatchSize(1)


def samples_of_run(inputs: Sequence[TensorInfo]) -> int | None:
    """How many samples a run takes; None if that is open."""
    firsts = [i.shape[0] for i in inputs if i.shape and i.shape[0] != 0]
    fixed = [size for size in firsts if isinstance(size, int) and size > 0]
    if not fixed:
        return None
    return math.gcd(*fixed) if len(fixed) == len(firsts) else 1


def rows_of_sample(inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """How many rows of each input a sample takes, where these differ: one of (batch, length), two of a recurrent state
    (2, batch, units). Empty where it takes one of each, or as many. Scalars are left out.

    Such samples are run one by one, or as many as the sizes declare: the batch may be another axis there, or none.
    """
    unit = samples_of_run(inputs) or 1
    firsts = {i.name: i.shape[0] for i in inputs if i.shape and i.shape[0] != 0}
    rows = {name: size // unit if isinstance(size, int) and size > 0 else 1 for name, size in firsts.items()}
    return rows if len(set(rows.values())) > 1 else {}


def batches(
    feeds: Mapping[str, Array], inputs: Sequence[TensorInfo], batch: BatchSize = ANY, tuning: BatchTuning = BATCHES
) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Divide ``feeds`` into batches: (feeds of one run, batch size, number of valid samples, which come first).

    A fixed batch size is kept; an open one is a multiple of ``batch.unit``. The last batch is padded with copies of the
    last sample. Where a sample takes several rows of some input, each is run by itself. Inputs with other first
    dimensions are run at once and count as one sample.
    """
    count, rows, fixed = sample_count(feeds), rows_of_sample(inputs), samples_of_run(inputs)
    if any(len(a) != count * rows.get(n, 1) for n, a in feeds.items() if has_rows(a)):
        yield dict(feeds), 1, 1
        return
    per_sample = max(1, sum(a.nbytes for a in feeds.values()) // max(count, 1))
    unit = fixed or batch.unit
    most = unit if fixed else min(batch.most, tuning.samples, tuning.bytes // per_sample)
    step = max(1, most // unit) * unit
    for start in range(0, count, step):
        valid = min(step, count - start)
        size = -(-valid // unit) * unit
        yield samples_at(feeds, np.minimum(np.arange(start, start + size), count - 1)), size, valid
