"""Generate samples of noise to compare outputs on, if the user gives none and the model does not take images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnx_merge.inputs.feeds import Sizes, random_feeds
from onnx_merge.runtime.batching import rows_of_run, samples_of_run
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from onnx_merge.tuning.inputs import SAMPLE_MEMORY
from passes.numerics.arrays import rows_between, samples_joined

Array = NDArray[Any]


def fewer_large(inputs: Sequence[TensorInfo], count: int, most: int, sizes: Sizes, bounds: Mapping[str, int]) -> int:
    """``count``, reduced if so many samples take more than ``most`` bytes or `SampleMemoryTuning.random_bytes`."""
    one = random_feeds(inputs, 1, 0, sizes, bounds)
    each = max(1, sum(array.nbytes for array in one.values()))
    return max(1, min(count, min(SAMPLE_MEMORY.random_bytes, most) // each))


def random_samples(
    inputs: Sequence[TensorInfo], count: int, seed: int, sizes: Sizes, bounds: Mapping[str, int]
) -> dict[str, Array]:
    """``count`` samples (N, ...). If a run takes a fixed number of them, they are drawn in as many runs as needed."""
    unit = samples_of_run(inputs)
    if unit is None or (any(is_open(i.shape[0]) for i in inputs if i.shape) and not rows_of_run(inputs)):
        return random_feeds(inputs, count, seed, sizes, bounds)
    runs = [random_feeds(inputs, 1, seed + k, sizes, bounds) for k in range(math.ceil(count / unit))]
    return rows_between(samples_joined(runs), 0, count)
