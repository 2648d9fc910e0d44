"""Samples in temporary files: the same values, no copies in memory, and memory that comes back."""

import errno
import gc
import os
import resource
import sys

import numpy as np
import pytest

from passes.interface.errors import PassError
from passes.samples.sample_files import file_array, folder_of, release_pages, row_chunks, rows_at


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, np.int64])
@pytest.mark.parametrize("shape", [(0, 3), (5,), (4, 3, 2)])
def test_values_are_kept_in_the_folder(kind, shape, tmp_path):
    made = file_array(shape, kind, str(tmp_path))
    values = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    made[...] = values
    release_pages()
    assert made.dtype == kind and np.array_equal(made, values)
    assert folder_of(made) == folder_of(made[1:]) == folder_of(made.reshape(-1)) == str(tmp_path)
    assert folder_of(made + 1) is None and folder_of(values) is None
    assert not list(tmp_path.iterdir())  # it has no name


def test_rows_stay_in_files_and_those_that_follow_each_other_are_no_copy(tmp_path):
    made = file_array((10, 4), np.float32, str(tmp_path))
    made[:] = np.arange(40).reshape(10, 4)
    for rows in ([0, 3, 9], np.array([2, 1]), []):
        found = rows_at(made, rows)
        assert folder_of(found) == str(tmp_path) and np.array_equal(found, np.asarray(made)[np.array(rows, int)])
    assert np.shares_memory(rows_at(made, [4, 5, 6]), made)
    assert folder_of(rows_at(np.zeros((3, 2)), [0, 2])) is None


def test_chunks_hold_all_rows_once():
    like = np.empty((1, 3000, 1000), np.float32)
    chunks = list(row_chunks(7, like))
    assert [k for chunk in chunks for k in range(7)[chunk]] == list(range(7)) and len(chunks) > 1
    assert list(row_chunks(0, like)) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_memory_of_pages_that_were_read_comes_back(tmp_path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    before = resident()
    made = file_array((64, 2**18), np.float32, str(tmp_path))
    made[:] = 1
    assert resident() - before > made.nbytes / 2
    release_pages()
    assert resident() - before < made.nbytes / 4
    assert made.sum() == made.size


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the space is not reserved")
def test_a_full_disk_is_told_with_the_remedy(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PassError, match="No space left on device; set TMPDIR"):
        file_array((4,), np.float32, str(tmp_path))
    gc.collect()
    release_pages()
