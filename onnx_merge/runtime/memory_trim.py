"""Return freed memory to the operating system, because the C library keeps much of it for later allocations."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from typing import Any


def trim() -> None:
    """Collect garbage and return freed memory. Without effect if the C library has no function for it."""
    gc.collect()  # graphs contain reference cycles
    defragment()


def defragment() -> None:
    """Return free pages between allocated ones. They accumulate if large tensors are allocated and freed repeatedly."""
    found = _libc()
    if found is not None:
        found.malloc_trim(0)


@functools.cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "malloc_trim") else None
    except OSError:  # another C library
        return None
