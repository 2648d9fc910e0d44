"""Generate samples of noise to compare outputs on, if the user gives none and the model does not take images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.inputs.feeds import Sizes, random_feeds
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import SAMPLE_MEMORY

Array = NDArray[Any]


def fewer_large(inputs: Sequence[TensorInfo], count: int, most: int, sizes: Sizes, bounds: Mapping[str, int]) -> int:
    """``count``, reduced if so many samples take more than ``most`` bytes or `SampleMemoryTuning.random_bytes`."""
    one = random_feeds(inputs, 1, 0, sizes, bounds)
    each = max(1, sum(array.nbytes for array in one.values()))
    return max(1, min(count, min(SAMPLE_MEMORY.random_bytes, most) // each))


def random_samples(
    inputs: Sequence[TensorInfo], count: int, seed: int, sizes: Sizes, bounds: Mapping[str, int]
) -> dict[str, Array]:
    """``count`` samples (N, ...). If the batch size is fixed, they are drawn in as many batches as needed."""
    batches = {i.shape[0] if i.shape else None for i in inputs}
    size = batches.pop() if len(batches) == 1 else None
    if not isinstance(size, int) or size < 1:
        return random_feeds(inputs, count, seed, sizes, bounds)
    runs = [random_feeds(inputs, None, seed + k, sizes, bounds) for k in range(math.ceil(count / size))]
    return {name: np.concatenate([run[name] for run in runs])[:count] for name in runs[0]}
