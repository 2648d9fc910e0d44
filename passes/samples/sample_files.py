"""Arrays of samples in temporary files, where memory cannot hold them: the operating system reads what is used.

The pages that were read take memory until `release_pages` returns them. Each run of a model does so when it is done.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from passes.graph.model import Array
from passes.interface.errors import PassError
from passes.numerics.arrays import has_rows, sample_count

CHUNK = 2**24
"""Bytes that are copied between files at a time: little beside any limit, and far more than the call takes."""


class _File(mmap.mmap):
    """A mapped temporary file in ``folder``."""

    folder: str


_FILES: weakref.WeakSet[_File] = weakref.WeakSet()


def file_array(shape: tuple[int, ...], dtype: DTypeLike, folder: str) -> Array:
    """A writable array in a temporary file in ``folder``, which the operating system removes with the array.

    Raises
    ------
    PassError: the folder cannot take it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk shows here, not when a page is written
                os.posix_fallocate(file.fileno(), 0, max(1, size))
            else:
                file.truncate(max(1, size))
            mapped = _File(file.fileno(), max(1, size))
    except OSError as error:
        what = error.strerror or error
        problem = f"temporary files in {folder}: {what}"
        raise PassError(f"{problem}; set TMPDIR to another folder, or give fewer samples") from error
    mapped.folder = folder
    _FILES.add(mapped)
    return np.frombuffer(mapped, np.dtype(dtype), math.prod(shape)).reshape(shape)


def folder_of(array: Array) -> str | None:
    """The folder of the temporary file that ``array`` is a part of; None if it is in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base.folder if isinstance(base, _File) else None


def samples_at(feeds: Mapping[str, Array], samples: Sequence[int] | Array) -> dict[str, Array]:
    """The samples of ``feeds`` at the indices ``samples``: rows of its arrays (see `sample_count`), others as they
    are."""
    count, index = sample_count(feeds), np.asarray(samples, np.intp)
    found = {}
    for name, array in feeds.items():
        each = len(array) // count if has_rows(array) else 0
        found[name] = rows_at(array, (index[:, None] * each + np.arange(each)).ravel()) if each else array
    return found


def rows_at(array: Array, rows: Sequence[int] | Array) -> Array:
    """The rows of ``array`` (N, ...) at the indices ``rows``: in another file if it is in one, and without a copy where
    they follow each other."""
    folder, index = folder_of(array), np.asarray(rows, np.intp)
    if folder is None:
        return np.asarray(array[index])
    if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        return array[index[0] : index[0] + len(index)]
    found = file_array((len(index), *array.shape[1:]), array.dtype, folder)
    for part in row_chunks(len(index), array):
        found[part] = array[index[part]]
        release_pages()
    return found


def row_chunks(count: int, like: Array) -> Iterator[slice]:
    """Slices of ``count`` rows, each of about `CHUNK` bytes. ``like`` (N, ...): an array with such rows."""
    step = max(1, CHUNK // max(1, math.prod(like.shape[1:]) * like.dtype.itemsize))
    yield from (slice(start, min(start + step, count)) for start in range(0, count, step))


def release_pages() -> None:
    """Return the memory of all pages that were read from or written to the files. Their content stays."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in list(_FILES):
            mapped.madvise(mmap.MADV_DONTNEED)
