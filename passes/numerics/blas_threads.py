"""How many threads BLAS takes, in turns with onnxruntime, which wants the cores as well.

OpenBLAS's threads wait busily for the next product, for a tenth of a second, and whatever runs in that time has a core
less. How long they wait is read from the environment while NumPy is loaded.
"""

import functools
import os
from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import ThreadpoolController

from .tuning import NUMERICS

WAIT = "OPENBLAS_THREAD_TIMEOUT"
"""Variable that holds the binary logarithm of the clock cycles that they wait; `onnx_merge` sets it to 4, the least."""


def threads_alternating() -> AbstractContextManager[object]:
    """For work between runs of onnxruntime: one thread, unless somebody has said how long threads wait."""
    return nullcontext() if WAIT in os.environ else _one()


def threads_for(unknowns: int) -> AbstractContextManager[object]:
    """As many as a system of that many unknowns is worth."""
    return nullcontext() if unknowns >= NUMERICS.linear_algebra.threaded_unknowns else _one()


def _one() -> AbstractContextManager[object]:
    limit: AbstractContextManager[object] = _pools().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _pools() -> ThreadpoolController:
    """Of the libraries that are loaded, as NumPy and SciPy are by the time anything is computed."""
    return ThreadpoolController()
