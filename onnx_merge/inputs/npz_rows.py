"""Arrays in an .npz file of which only some rows are read: the file may be many times as large as what is wanted."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LARGE = 2**25
"""Bytes from which on an array stays in its file."""
SKIPPED = 2**20
"""Bytes that are read at a time on the way to the next row."""


class StoredArray:
    """An array of the member ``key`` of an .npz file; rows are read when they are asked for."""

    def __init__(self, path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype[Any], start: int) -> None:
        self._path, self._member, self._start = path, member, start
        self.shape, self.dtype, self.ndim, self.size = shape, dtype, len(shape), math.prod(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Sequence[int]) -> Array:
        """The rows, which must ascend."""
        found: Array = np.empty((len(rows), *self.shape[1:]), self.dtype)
        each = self.dtype.itemsize * math.prod(self.shape[1:])
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            at = -self._start
            for k, row in enumerate(rows):
                _skip(file, row * each - at)
                content = file.read(each)
                found[k] = np.frombuffer(content, self.dtype).reshape(self.shape[1:])
                at = (row + 1) * each
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = self[range(len(self))]
        return whole if dtype is None else whole.astype(dtype)


def stored(path: Path, archive: Any, key: str) -> Array | StoredArray:
    """The array ``key`` of an ``archive`` that NumPy opened: as it is stored where it is large, else its values.

    Raises what NumPy raises where it cannot be read.
    """
    member = f"{key}.npy"
    names = {info.filename: info.file_size for info in archive.zip.infolist()}
    if names.get(member, 0) >= LARGE:
        with archive.zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
                version
            )
            if read is not None:
                shape, fortran, dtype = read(file)
                whole = file.tell() + dtype.itemsize * math.prod(shape) == names[member]
                if shape and not fortran and not dtype.hasobject and whole:
                    return StoredArray(path, member, shape, dtype, file.tell())
    values: Array = archive[key]
    return values


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        count -= len(file.read(min(count, SKIPPED))) or count
