"""Return freed memory to the operating system, because the C library keeps much of it for later allocations."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import sys
from typing import Any

from onnx_merge.tuning.inputs import SAMPLE_MEMORY

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, as in malloc.h of the GNU C library."""
LARGEST_IN_HEAP = 2**25
"""Bytes from which on the library always asks the system for memory."""


def trim() -> None:
    """Collect garbage and return freed memory. Without effect if the C library has no function for it."""
    gc.collect()  # graphs contain reference cycles
    found = _libc()
    if found is not None:
        found.malloc_trim(0)


def defragment() -> None:
    """Return free pages between allocated ones, if they add up. They accumulate if large tensors are allocated and
    freed repeatedly. Pages that are returned cost time when they are needed again."""
    found = _libc()
    if found is not None and _unused_bytes(found) >= SAMPLE_MEMORY.unused_bytes:
        found.malloc_trim(0)


class _Allocated(ctypes.Structure):
    """``struct mallinfo2`` of the GNU C library."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def _unused_bytes(library: Any) -> float:
    """Bytes that were freed, but not returned; infinity where the C library (before 2.33) does not tell."""
    if not hasattr(library, "mallinfo2"):
        return math.inf
    library.mallinfo2.restype = _Allocated
    return float(library.mallinfo2().fordblks)


@functools.cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library
        return None
    if not hasattr(library, "malloc_trim"):
        return None
    # Otherwise the tensors of each run are returned to the system, and their pages are cleared again for the next run.
    library.mallopt(TRIM_THRESHOLD, SAMPLE_MEMORY.reused_bytes)
    library.mallopt(MMAP_THRESHOLD, LARGEST_IN_HEAP)
    return library
