"""Keeps the tensors of a run in a temporary file, where memory cannot hold those of all samples."""

from __future__ import annotations

import tempfile
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.interface.errors import PassError


@dataclass(frozen=True)
class ScratchSpace:
    """``room`` bytes for temporary files in ``folder``."""

    folder: str
    room: float


@dataclass(frozen=True)
class _Stored:
    """Position of a tensor in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class TensorStore:
    """A temporary file in ``folder``, which the operating system removes with the store, however the process ends.

    The space of a tensor that was dropped is used again by the next one of the same size: the batches of a run have
    tensors of the same sizes.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._end = folder, 0
        self._unused: dict[int, list[int]] = defaultdict(list)
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with the store
        except OSError as error:
            raise self._refused(error) from error
        weakref.finalize(self, self._file.close)

    def put(self, array: Array) -> _Stored:
        """Write ``array``.

        Raises
        ------
        PassError: the folder cannot take it.
        """
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        unused = self._unused[len(data)]
        stored = _Stored(unused.pop() if unused else self._end, array.shape, array.dtype)
        self._end = max(self._end, stored.start + len(data))
        try:
            self._file.seek(stored.start)
            while len(data):
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._refused(error) from error
        return stored

    def get(self, stored: _Stored) -> Array:
        """Read a tensor."""
        found = np.empty(stored.shape, stored.dtype)
        data = found.reshape(-1).view(np.uint8).data
        try:
            self._file.seek(stored.start)
            while len(data):
                count = self._file.readinto(data)
                if not count:
                    raise OSError("a temporary file was cut short")
                data = data[count:]
        except OSError as error:
            raise self._refused(error) from error
        return found

    def drop(self, stored: _Stored) -> None:
        """Allow the space of a tensor to be used again."""
        self._unused[stored.size].append(stored.start)

    def _refused(self, error: OSError) -> PassError:
        what = error.strerror or error
        return PassError(f"temporary files in {self._folder}: {what}; set TMPDIR to another folder, or raise the limit")


class StoredTensors(MutableMapping[str, Array]):
    """Tensors by name, in ``store``, but for strings and those ``given`` at first. Each access reads the file."""

    def __init__(self, store: TensorStore, given: Mapping[str, Array]) -> None:
        self._store, self._given = store, dict(given)
        self._stored: dict[str, _Stored] = {}

    def __getitem__(self, name: str) -> Array:
        return self._given[name] if name in self._given else self._store.get(self._stored[name])

    def __setitem__(self, name: str, array: Array) -> None:
        if name in self:
            del self[name]
        if array.dtype.hasobject:  # strings
            self._given[name] = array
        else:
            self._stored[name] = self._store.put(array)

    def __delitem__(self, name: str) -> None:
        if name in self._given:
            del self._given[name]
        else:
            self._store.drop(self._stored.pop(name))

    def __contains__(self, name: object) -> bool:
        return name in self._given or name in self._stored

    def __iter__(self) -> Iterator[str]:
        yield from self._given
        yield from self._stored

    def __len__(self) -> int:
        return len(self._given) + len(self._stored)
