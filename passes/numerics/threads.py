"""Threads: of BLAS, which alternate with those of onnxruntime, and of items that are computed at the same time.

After a product, OpenBLAS's threads busy-wait for the next one, for a tenth of a second. Anything that runs in that time
has one core less. The waiting time is read from the environment while NumPy is loaded.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from .tuning import NUMERICS

Item = TypeVar("Item")
Result = TypeVar("Result")

WAIT = "OPENBLAS_THREAD_TIMEOUT"
"""Variable with the binary logarithm of the waiting time in clock cycles. `onnx_merge` sets it to 4, the minimum."""


def threads_alternating() -> AbstractContextManager[object]:
    """Limit for work between runs of onnxruntime: one thread, unless the user has set the waiting time."""
    return nullcontext() if WAIT in os.environ else one_blas_thread()


def threads_for(unknowns: int) -> AbstractContextManager[object]:
    """Limit for a linear system, or products of matrices of its size: all threads if it has many unknowns, else one."""
    return nullcontext() if unknowns >= NUMERICS.linear_algebra.threaded_unknowns else one_blas_thread()


def one_blas_thread() -> AbstractContextManager[object]:
    """Limit for work in several threads at the same time."""
    limit: AbstractContextManager[object] = _pools().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _pools() -> ThreadpoolController:
    """Controller of the loaded libraries. NumPy and SciPy are loaded before anything is computed."""
    return ThreadpoolController()


def at_once(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``function`` of each of ``items``, in their order. ``workers`` of them are computed at the same time, and no more
    results wait to be taken. NumPy and onnxruntime let other threads run while they compute."""
    if workers < 2:
        yield from map(function, items)
        return
    waiting = deque[Future[Result]]()
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(copy_context().run, function, item))
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
