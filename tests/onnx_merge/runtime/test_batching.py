"""Samples of which a run takes several rows of some input."""

import numpy as np
import pytest

from onnx_merge.runtime.batching import batches, rows_of_sample, samples_of_run
from onnx_merge.runtime.tensor_info import TensorInfo


def inputs(*shapes):
    return [TensorInfo(f"i{k}", np.dtype(np.float32), shape) for k, shape in enumerate(shapes)]


@pytest.mark.parametrize(
    ("shapes", "run", "rows"),
    [
        ([("N", 3)], None, {}),
        ([(8, 3)], 8, {}),
        ([("N", 3), ()], None, {}),
        ([("N", 3), ("M", 2)], None, {}),
        ([(1, 3), (1, 2)], 1, {}),
        ([("N", 3), (1, 2)], 1, {}),
        ([("N", 3), (0, 2)], None, {}),
        ([("N", 3), (2, "N", 5)], 1, {"i0": 1, "i1": 2}),
        ([(1, 3), (2, 1, 5)], 1, {"i0": 1, "i1": 2}),
        ([(4, 3), (2, 4, 5)], 2, {"i0": 2, "i1": 1}),
        ([(-1, 3), (2, -1, 5)], 1, {"i0": 1, "i1": 2}),
        ([("N", 3), (1, "N", 5)], 1, {}),
        ([("N", 3), (1000, 4)], 1, {"i0": 1, "i1": 1000}),
        ([("N", 3), (2, "E")], 2, {}),  # the edges of a graph
        ([("T", "N", 4), (2, "N", 5)], 2, {}),  # time is the first axis
        ([("T", 1, 4), (2, 1, 5)], 2, {}),
    ],
)
def test_samples_of_a_run(shapes, run, rows):
    assert samples_of_run(inputs(*shapes)) == run
    assert rows_of_sample(inputs(*shapes)) == rows


@pytest.mark.parametrize(("first", "size", "runs"), [("N", 1, 3), (1, 1, 3), (4, 2, 2)])
def test_runs_of_samples_with_several_rows(first, size, runs):
    declared = inputs((first, 3), (2, first, 5))
    each = rows_of_sample(declared)
    feeds = {
        "i0": np.repeat(np.arange(3), each["i0"])[:, None],
        "i1": np.repeat(np.arange(3), each["i1"])[:, None, None],
    }
    made = list(batches(feeds, declared))
    assert [(batch, valid) for _, batch, valid in made] == [(size, min(size, 3 - size * k)) for k in range(runs)]
    for chunk, _, _ in made:
        assert len(chunk["i0"]) == size * each["i0"] and len(chunk["i1"]) == size * each["i1"]
    samples = [set(chunk[name].ravel()) for chunk, _, _ in made for name in ("i0", "i1")]
    assert samples[0::2] == samples[1::2]
