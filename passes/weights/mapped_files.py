"""Files that are mapped into memory, for the weights of large models.

Every file is mapped once in a process, so that all graphs and sessions that read a weight share its pages. The
operating system may take pages back at any time, since the file has what they hold.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from passes.interface.engine import Array


@dataclass(frozen=True)
class FilePlace:
    """``length`` bytes from ``offset`` on in the file at ``path``."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class _Mapping:
    """``size`` bytes of the file at ``path``, at ``address``; ``pages`` refers weakly to what arrays hold."""

    path: str
    pages: weakref.ref[mmap.mmap]
    address: int
    size: int
    last: weakref.finalize[[str], mmap.mmap] | None = None
    """Removes a temporary file with the last array that lies in it."""


class MappedFiles:
    """The mapped files of a process. ``resident``: bytes that are handed out before their pages are dropped."""

    def __init__(self, resident: int) -> None:
        self._resident = resident
        self._by_path: dict[str, _Mapping] = {}
        self._by_address: list[_Mapping] = []
        self._kept: dict[str, mmap.mmap] = {}
        self._read = 0
        self._lock = threading.RLock()  # a thread that collects garbage may remove files while it maps one

    def array(self, place: FilePlace, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
        """The values at ``place``, not copied. Nothing may be written to them.

        Raises
        ------
        OSError, ValueError: the file cannot be mapped, or is too short.
        """
        self.note_read(place.length)
        pages = self._kept.get(place.path)
        if pages is None:
            pages = self._kept[place.path] = self._pages(place.path)
        return _array_at(pages, place, dtype, shape)

    def temporary(
        self, path: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], gone: Callable[[], None]
    ) -> Array:
        """The values that are the whole file at ``path``, which is removed with the last array that lies in it, unless
        `keep` comes first. ``gone`` is called then."""

        def remove(path: str) -> None:
            self.close(path)
            with contextlib.suppress(OSError):
                os.unlink(path)
            gone()

        pages = self._pages(path, remove)
        self.note_read(len(pages))
        return _array_at(pages, FilePlace(path, 0, len(pages)), dtype, shape)

    def keep(self, path: str) -> None:
        """Keep the file at ``path``, since more than arrays refers to it: it is not temporary any more."""
        mapping = self._by_path.get(path)
        pages = mapping.pages() if mapping is not None else None
        if mapping is not None and pages is not None:
            self._kept[path] = pages
            if mapping.last is not None:
                mapping.last.detach()

    def discard(self, path: str) -> int:
        """Remove the file at ``path``, if it was kept. Arrays that lie in it stay valid. Returns its bytes, or 0."""
        if self._kept.get(path) is None:
            return 0
        size = self._by_path[path].size
        self.close(path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return size

    def place_of(self, array: Array) -> FilePlace | None:
        """Where a contiguous array lies in a mapped file; None if it does not."""
        known = self._by_address
        if not known or not array.size or not array.flags.c_contiguous:
            return None
        address = _address(array)
        before = bisect.bisect_right(known, address, key=lambda mapping: mapping.address)
        if not before:
            return None
        mapping = known[before - 1]
        offset = address - mapping.address
        held = mapping.pages() is not None and offset + array.nbytes <= mapping.size
        return FilePlace(mapping.path, offset, array.nbytes) if held else None

    def note_read(self, size: int) -> None:
        """Count ``size`` bytes as read, and drop the pages of all files if these are many."""
        self._read += size
        if self._read > self._resident:
            self.drop_pages()

    def drop_pages(self) -> None:
        """Give the memory of what was read back to the operating system. It is read again where it is used."""
        self._read = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapping in self._by_address:
                pages = mapping.pages()
                if pages is not None:
                    pages.madvise(mmap.MADV_DONTNEED)

    def close(self, path: str) -> None:
        """Forget the file at ``path``. Arrays that lie in it stay valid."""
        with self._lock:
            mapping = self._by_path.pop(path, None)
            self._kept.pop(path, None)
            self._by_address = [other for other in self._by_address if other is not mapping]
        if mapping is not None and mapping.last is not None:
            mapping.last.detach()

    def close_lasting(self) -> None:
        """Forget all files that are not temporary: the next run may find others at their paths. A run that still reads
        them maps them again."""
        for mapping in list(self._by_path.values()):
            if mapping.last is None:
                self.close(mapping.path)

    def _pages(self, path: str, remove: Callable[[str], None] | None = None) -> mmap.mmap:
        with self._lock:
            mapping = self._by_path.get(path)
            known = mapping.pages() if mapping is not None else None
            return known if known is not None else self._mapped(path, remove)

    def _mapped(self, path: str, remove: Callable[[str], None] | None) -> mmap.mmap:
        with open(path, "rb") as file:
            # Copied where written to: kernels ask for writable arrays, and would copy others as a whole.
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        last = None if remove is None else weakref.finalize(pages, remove, path)
        found = _Mapping(path, weakref.ref(pages), _address(np.frombuffer(pages, np.uint8, 1)), len(pages), last)
        self._by_path[path] = found
        self._by_address = sorted(self._by_path.values(), key=lambda mapping: mapping.address)
        return pages


def _array_at(pages: mmap.mmap, place: FilePlace, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Array:
    return np.frombuffer(pages, np.uint8, place.length, place.offset).view(dtype).reshape(shape)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
