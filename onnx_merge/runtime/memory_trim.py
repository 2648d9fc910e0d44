"""Return freed memory to the operating system, because the C library keeps much of it for later allocations."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import sys
from typing import Any

from onnx_merge.tuning.inputs import SAMPLE_MEMORY


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
    if found is not None and _unused_bytes(found) >= SAMPLE_MEMORY.kept_free_bytes:
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
        return library if hasattr(library, "malloc_trim") else None
    except OSError:  # another C library
        return None
