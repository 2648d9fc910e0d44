"""Limit the number of threads, so that concurrent processes do not compete for the cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from onnx_merge.runtime.session_settings import threads_limited


def share_of_cores(processes: int) -> int:
    """The number of threads for each of ``processes`` processes, at least one."""
    return max(1, usable_cores() // processes)


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """In the block, new onnxruntime sessions and BLAS use this many threads; no limit if None."""
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads), threads_limited(threads):
        yield
