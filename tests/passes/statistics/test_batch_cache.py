"""Tests of tensors of batches that are kept in memory and on disk."""

import numpy as np

from passes.statistics.batch_cache import BatchCache
from passes.statistics.tensor_store import ScratchSpace


def run(model):
    raise AssertionError("nothing runs")


def batch(seed):
    return {"a": np.random.default_rng(seed).random((2, 3), np.float32), "b": np.full((0, 2), seed, np.float64)}


def test_what_memory_does_not_hold_is_in_a_file_until_that_is_full(tmp_path):
    size = batch(0)["a"].nbytes
    cache = BatchCache(run, 1.5 * size, ScratchSpace(str(tmp_path), 2.5 * size))
    for index in range(4):
        cache.put(index, batch(index))
        cache.put(index, batch(99))  # the first one stays
    for index in range(3):
        for name, value in batch(index).items():
            np.testing.assert_array_equal(cache.get(index)[name], value)
    assert cache.get(3) is None


def test_without_a_file_only_memory_is_used():
    cache = BatchCache(run, batch(0)["a"].nbytes)
    cache.put(0, batch(0))
    cache.put(1, batch(1))
    assert cache.get(0) is not None and cache.get(1) is None


def test_a_full_disk_is_no_failure(tmp_path, monkeypatch):
    cache = BatchCache(run, 0, ScratchSpace(str(tmp_path), 1e9))

    def full(*_):
        raise OSError("No space left on device")

    cache.put(0, batch(0))
    monkeypatch.setattr(cache._store, "_file", type("Full", (), {"seek": full})())
    cache.put(1, batch(1))
    assert cache.get(1) is None


def test_a_folder_that_takes_no_files_is_no_failure(tmp_path):
    cache = BatchCache(run, 0, ScratchSpace(str(tmp_path / "missing"), 1e9))
    cache.put(0, batch(0))
    assert cache.get(0) is None
