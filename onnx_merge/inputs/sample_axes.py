"""Find the samples in arrays of inputs of which each sample takes several rows, such as recurrent states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.inputs.npz_rows import StoredArray
from onnx_merge.runtime.batching import rows_of_sample
from onnx_merge.runtime.tensor_info import TensorInfo

Stored = NDArray[Any] | StoredArray


def by_sample(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo]) -> dict[str, Stored]:
    """``arrays`` with samples along the first axis, (N, ...).

    A state that is declared as (2, batch, units) may be given as it is fed, (2, N, units), as the states of single
    samples one after the other, (2 N, 1, units), or as (N, 2, 1, units), which is what the others become. Arrays of
    another rank or size stay as they are.
    """
    found = dict(arrays)
    rows = rows_of_sample(inputs)
    counts = [len(arrays[i.name]) for i in inputs if rows.get(i.name) == 1 and arrays[i.name].ndim == len(i.shape)]
    count = min(counts, default=1)
    for info in inputs:
        each, array = rows.get(info.name, 1), arrays[info.name]
        if each == 1 or array.ndim != len(info.shape):
            continue
        open_axes = [k for k, size in enumerate(info.shape) if k and (size == 1 or not isinstance(size, int))]
        batch = next((k for k in open_axes if array.shape[k] == count), None)
        if batch is not None and len(array) == each:
            found[info.name] = np.expand_dims(np.moveaxis(np.asarray(array), batch, 0), batch + 1)
        elif len(array) % each == 0:
            found[info.name] = np.asarray(array).reshape(-1, each, *array.shape[1:])
    return found
