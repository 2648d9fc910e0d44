"""Memory that has been freed goes back to the system: the C library keeps much of it for what may come."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from typing import Any


def trim() -> None:
    """Give back what is free; does nothing where the C library has no way to."""
    gc.collect()  # graphs refer to themselves
    defragment()


def defragment() -> None:
    """Give back the free pages between what is held: where large tensors come and go, they add up."""
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
