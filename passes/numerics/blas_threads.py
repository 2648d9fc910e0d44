"""Sets the number of BLAS threads, which alternate with those of onnxruntime.

After a product, OpenBLAS's threads busy-wait for the next one, for a tenth of a second. Anything that runs in that time
has one core less. The waiting time is read from the environment while NumPy is loaded.
"""

import functools
import os
from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import ThreadpoolController

from .tuning import NUMERICS

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
