"""Decides from a model's names and runs whether the first axes of its inputs can be the samples'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.dimensions import Assignment
from onnx_merge.inputs.feeds import Array, feeds_at
from onnx_merge.inputs.sample_axes import crosses
from onnx_merge.runtime.batching import batch_axes, rows_of_run
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from onnx_merge.tuning.inputs import WHOLE_RUNS


def takes_one_sample(
    session: Session, runs: Sequence[Assignment], seed: int, bounds: Mapping[str, int], *, asked: bool = False
) -> bool:
    """Whether first axes cannot be all the samples': a size stands on later axes too, or they had unlike sizes in
    ``runs``, at which the model ran, and rows of the outputs depend on other rows of the inputs.

    ``asked``: whether samples have a form that says so; then only the rows decide.
    """
    ranked = [i for i in session.inputs if i.shape and i.shape[0] != 0]
    dynamic = [i for i in ranked if is_open(i.shape[0])]
    first = {i.shape[0] for i in dynamic if isinstance(i.shape[0], str)}
    states = rows_of_run(ranked)
    if not runs or not dynamic:
        return False
    if crosses(ranked) or any(size in first for i in ranked if i.name not in states for size in i.shape[1:]):
        return True
    fixed = set[int]() if states else {i.shape[0] for i in ranked if isinstance(i.shape[0], int)} - {1}
    sizes = [{a[i.name][0] for i in dynamic} for a in runs]
    if not asked and all(len(some) == 1 and fixed <= some for some in sizes):
        return False
    if len(fixed) > 1:
        return True
    batches = fixed or {max(sizes[0]), WHOLE_RUNS.rows}
    return not any(_rows_are_apart(session, runs[0], batch, seed, bounds) for batch in batches)


def _rows_are_apart(session: Session, run: Assignment, batch: int, seed: int, bounds: Mapping[str, int]) -> bool:
    """Whether the model runs at a batch of this size, and each row of the outputs depends on its row of the inputs
    alone: others are changed."""
    inputs = session.inputs
    axes = _axes(inputs)
    shapes = {
        name: tuple(batch if k == axes.get(name) else size for k, size in enumerate(shape))
        for name, shape in run.items()
    }
    for draw in range(WHOLE_RUNS.draws):
        feeds, others = (feeds_at(inputs, shapes, s, bounds) for s in (seed + 2 * draw, seed + 2 * draw + 1))
        changed = {name: _with_row(a, others[name], axes.get(name)) for name, a in feeds.items()}
        try:
            before, after = session.run(feeds), session.run(changed)
        except OnnxMergeError:
            return False
        if not all(_same_behind(before[name], after[name], batch) for name in before):
            return False
    return True


def _axes(inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """Input name -> the axis that would be the samples'; none for inputs that are the same for all."""
    states, tables = batch_axes(inputs), rows_of_run(inputs)
    found = {i.name: 0 for i in inputs if i.shape and i.name not in tables and i.shape[0] not in (0, 1)}
    return found | states


def _with_row(array: Array, other: Array, axis: int | None) -> Array:
    if axis is None:
        return array
    result = np.moveaxis(array.copy(), axis, 0)
    result[0] = np.moveaxis(other, axis, 0)[0]
    return np.moveaxis(result, 0, axis)


def _same_behind(before: Array, after: Array, batch: int) -> bool:
    """Whether all rows but the first are the same."""
    if before.shape != after.shape or not before.ndim or len(before) != batch:
        return False
    if before.dtype.kind != "f":
        return bool(np.array_equal(before[1:], after[1:]))
    return bool(np.allclose(before[1:], after[1:], WHOLE_RUNS.tolerance, WHOLE_RUNS.tolerance, equal_nan=True))
