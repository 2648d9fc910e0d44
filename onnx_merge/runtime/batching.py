"""Divide samples into the batches that a model is run on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.runtime.tensor_info import TensorInfo, is_open
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


def batch_axes(inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """Input name -> axis of the batch, where that is another than the first: 1 of a recurrent state (layers, batch,
    units), beside an input (batch, ...). A dynamic axis without a name counts if it is the only one of three."""
    first = {i.shape[0] for i in inputs if i.shape and is_open(i.shape[0])}
    unnamed = any(not isinstance(size, str) for size in first)
    found: dict[str, int] = {}
    for info in inputs:
        if not info.shape or is_open(info.shape[0]):
            continue
        dynamic = [k for k, size in enumerate(info.shape) if is_open(size)]
        axes = [k for k in dynamic if isinstance(info.shape[k], str) and info.shape[k] in first]
        if not axes and unnamed and dynamic == [1] and len(info.shape) == 3 and not isinstance(info.shape[1], str):
            axes = dynamic
        found |= {info.name: axes[0]} if axes else {}
    return found


def rows_of_run(inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """How many rows a run takes of each input whose first axis is fixed, where they are none of samples: of recurrent
    states, of tables (rows, columns), of lists of numbers, and of inputs of unlike fixed sizes. Empty where the first
    axes are the batch, or another axis of unknown size is involved, such as that of the edges of a graph."""
    firsts = {i.name: i.shape[0] for i in inputs if i.shape and i.shape[0] != 0}
    fixed = {name: size for name, size in firsts.items() if isinstance(size, int) and size > 0}
    if len(fixed) == len(firsts):
        return fixed if len(set(fixed.values())) > 1 else {}
    whole = {i.name for i in inputs if not any(map(is_open, i.shape))}
    small = {i.name for i in inputs if len(i.shape) == 1 or (len(i.shape) == 2 and fixed.get(i.name, 1) > 1)}
    tables = whole & small & {*fixed}
    return fixed if fixed and {*batch_axes(inputs), *tables} >= {*fixed} else {}


def samples_of_run(inputs: Sequence[TensorInfo]) -> int | None:
    """How many samples a run takes; None if that is open."""
    firsts = [i.shape[0] for i in inputs if i.shape and i.shape[0] != 0]
    fixed = [size for size in firsts if isinstance(size, int) and size > 0]
    if not fixed:
        return None
    if rows_of_run(inputs):
        return math.gcd(*fixed) if len(fixed) == len(firsts) else 1
    return min(fixed)


def rows_of_sample(inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """How many rows of each input a sample takes, where these differ: one of (batch, length), two of a recurrent state
    (2, batch, units). Empty where it takes one of each.

    Such samples are run one by one, or as many as the sizes declare.
    """
    run, unit = rows_of_run(inputs), samples_of_run(inputs) or 1
    rows = {i.name: run.get(i.name, unit) // unit for i in inputs if i.shape and i.shape[0] != 0} if run else {}
    return rows if len(set(rows.values())) > 1 else {}


def divides(feeds: Mapping[str, Array], inputs: Sequence[TensorInfo]) -> bool:
    """Whether ``feeds`` hold samples (N, ...) that can be run in batches: the first axis of each input is theirs."""
    count, rows = sample_count(feeds), rows_of_sample(inputs)
    mixed = not rows and len({i.shape[0] for i in inputs if i.shape and not is_open(i.shape[0])} - {0}) > 1
    return count > 0 and not mixed and all(len(a) == count * rows.get(n, 1) for n, a in feeds.items() if has_rows(a))


def batches(
    feeds: Mapping[str, Array], inputs: Sequence[TensorInfo], batch: BatchSize = ANY, tuning: BatchTuning = BATCHES
) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Divide ``feeds`` into batches: (feeds of one run, batch size, number of valid samples, which come first).

    A fixed batch size is kept; an open one is a multiple of ``batch.unit``. The last batch is padded with copies of the
    last sample. Where a sample takes several rows of some input, each is run by itself. Inputs with other first
    dimensions are run at once and count as one sample.
    """
    count, fixed = sample_count(feeds), samples_of_run(inputs)
    if not divides(feeds, inputs):
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
