"""A limit on the threads that computing takes, so that processes side by side do not fight for the cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from onnx_merge.runtime.session import threads_limited


def share_of_cores(processes: int) -> int:
    """Threads for each of so many processes."""
    return max(1, usable_cores() // processes)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """In the block, new sessions of onnxruntime and BLAS take so many threads; None: as they like."""
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads), threads_limited(threads):
        yield
