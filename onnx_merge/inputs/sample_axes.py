"""Find the samples in arrays of inputs of which each sample takes several rows, such as recurrent states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.inputs.feeds import describe
from onnx_merge.inputs.npz_rows import StoredArray
from onnx_merge.runtime.batching import batch_axes, rows_of_run
from onnx_merge.runtime.tensor_info import TensorInfo, is_open

Stored = NDArray[Any] | StoredArray
UNLIKE = "the first axes of its inputs are not all the samples'"


def by_sample(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo]) -> dict[str, Stored]:
    """``arrays`` with samples along the first axis, (N, ...).

    A state that is declared as (2, batch, units) may be given as it is fed, (2, N, units), as the states of single
    samples one after the other, (2 N, 1, units), or as (N, 2, 1, units), which is what the others become. Arrays of
    another rank or size stay as they are.
    """
    rows, axes = rows_of_run(inputs), batch_axes(inputs)
    found = dict(arrays)
    if not rows:
        return found
    fed = [i for i in inputs if i.shape and arrays[i.name].ndim == len(i.shape) and i.shape[0] != 0]
    count = max((_samples_in(arrays[i.name], i.shape, rows.get(i.name, 1)) for i in fed), default=1)
    for info in fed:
        each, array = rows.get(info.name, 0), arrays[info.name]
        if not each:
            continue
        sizes = {k: size if isinstance(size, int) and size > 0 else 1 for k, size in enumerate(info.shape)}
        joined = [k for k in sizes if k and count > 1 and array.shape[k] == count * sizes[k] and len(array) == each]
        joined = [k for k in joined if k == axes.get(info.name, k)]
        if joined:
            k = joined[0]
            parts = np.asarray(array).reshape(*array.shape[:k], count, sizes[k], *array.shape[k + 1 :])
            found[info.name] = np.moveaxis(parts, k, 0)
        elif len(array) % each == 0:
            found[info.name] = np.asarray(array).reshape(-1, each, *array.shape[1:])
    return found


def _samples_in(array: Stored, shape: Sequence[int | str | None], rows: int) -> int:
    """The number of samples in ``array``, of an input of sizes ``shape`` of which a run takes ``rows``."""
    fixed = math.prod(size for size in shape if isinstance(size, int))
    return array.size // fixed if fixed and not any(map(is_open, shape)) else len(array) // rows


def as_fed(feeds: Mapping[str, NDArray[Any]], inputs: Sequence[TensorInfo]) -> dict[str, NDArray[Any]]:
    """Samples as one batch: the states of single ones, (2 N, 1, units), become (2, N, units)."""
    found, rows = dict(feeds), rows_of_run(inputs)
    for name, axis in batch_axes(inputs).items() if rows else ():
        found[name] = np.concatenate(np.split(found[name], len(found[name]) // rows[name]), axis)
    return found


def unlike_axes(inputs: Sequence[TensorInfo]) -> bool:
    """Whether the declared sizes show that the first axes are not all that of the samples: dynamic ones have several
    names, or one that stands on a later axis too, or others are fixed and no states of samples. Samples (N, ...) then
    do not fit, and sizes of a single one have to be fixed."""
    firsts = [i.shape[0] for i in inputs if i.shape and i.shape[0] != 0]
    named = {size for size in firsts if isinstance(size, str)}
    mixed = len({*map(is_open, firsts)}) > 1 and not rows_of_run(inputs)
    return mixed or len(named) > 1 or crosses(inputs)


def with_axis_in_front(inputs: Sequence[TensorInfo]) -> str:
    """The forms of samples where each run takes one, for messages: ``x (samples, n, 12), ei (samples, 2, e)``."""
    return ", ".join(f"{i.name} {describe(('samples', *i.shape))}" for i in inputs if i.shape)


def fixing_sizes(sizes: Mapping[str, Sequence[int]]) -> str:
    """The remedy where first axes are unlike. ``sizes``: input name -> sizes at which the model ran."""
    fixed = " ".join(f"--fix-shape {name}:{','.join(map(str, size))}" for name, size in sizes.items() if size)
    return f"sizes that the result keeps, such as {fixed}"


def crosses(inputs: Sequence[TensorInfo]) -> bool:
    """Whether a dynamic first axis stands on a later axis too, as in a square matrix of edges between nodes: its rows
    cannot be taken apart."""
    dynamic = [i.shape for i in inputs if i.shape and isinstance(i.shape[0], str)]
    first = {shape[0] for shape in dynamic}
    return any(size in first for shape in dynamic for size in shape[1:])
