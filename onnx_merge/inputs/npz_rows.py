"""Read selected rows of an array in an .npz file, which may be much larger than the rows that are needed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.tuning.inputs import SAMPLE_MEMORY

Array = NDArray[Any]


class StoredArray:
    """An array in an .npz file, whose rows are read on demand."""

    def __init__(self, path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype[Any], start: int) -> None:
        self._path, self._member, self._start = path, member, start
        self.shape, self.dtype, self.ndim, self.size = shape, dtype, len(shape), math.prod(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Sequence[int]) -> Array:
        """The rows at the indices ``rows``, which must ascend."""
        return next(self.parts(rows, max(1, len(rows))), np.empty((0, *self.shape[1:]), self.dtype))

    def parts(self, rows: Sequence[int], count: int) -> Iterator[Array]:
        """The rows at the ascending indices ``rows``, in blocks of at most ``count`` rows. The file is read once."""
        each = self.dtype.itemsize * math.prod(self.shape[1:])
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            at = -self._start
            for start in range(0, len(rows), count):
                some = rows[start : start + count]
                found: Array = np.empty((len(some), *self.shape[1:]), self.dtype)
                for k, row in enumerate(some):
                    _skip(file, row * each - at)
                    content = file.read(each)
                    found[k] = np.frombuffer(content, self.dtype).reshape(self.shape[1:])
                    at = (row + 1) * each
                yield found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = self[range(len(self))]
        return whole if dtype is None else whole.astype(dtype)


def stored(path: Path, archive: Any, key: str) -> Array | StoredArray:
    """The array ``key`` of an open ``archive``: a `StoredArray` if it is large, else its values.

    If it cannot be read, NumPy's exception is raised.
    """
    member = f"{key}.npy"
    names = {info.filename: info.file_size for info in archive.zip.infolist()}
    if names.get(member, 0) >= SAMPLE_MEMORY.stored_bytes:
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
        count -= len(file.read(min(count, SAMPLE_MEMORY.skipped_bytes))) or count
