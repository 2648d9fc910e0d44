"""Numba's compiler, typed and set up once: ``@serial`` and ``@parallel`` keep a kernel's signature for mypy.

Both compile lazily, for the one signature the wrappers in this folder call them with, and cache the machine code on
disk: the first run on a machine compiles, later ones load (some milliseconds a kernel). No ``fastmath``: NaN handling
and the order of sums stay as written, so a result does not depend on the machine's vector width or thread count.

A kernel keeps to its own file: Numba's cache notices a change of the file a kernel is in, not of one it calls into.
"""

from collections.abc import Callable
from functools import update_wrapper
from threading import RLock
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

prange: type[range] = numba.prange

# What was compiled, in order of definition: the dispatchers, for tests and timing.
KERNELS: list[Any] = []

# Numba's fallback threading layer (workqueue, where neither TBB nor OpenMP is found) aborts the process when two Python
# threads enter parallel kernels at once.
_entrance = RLock()


def _compile(kernel: Callable[P, R], *, threads: bool) -> Any:
    # error_model: a division by zero gives inf as in NumPy. Python's model puts a branch that raises in every loop that
    # divides; the kernels test for zero norms themselves.
    options = {"parallel": threads, "error_model": "numpy"}
    jit: Any = numba.njit  # typed in some releases only
    try:
        dispatcher = jit(cache=True, **options)(kernel)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        dispatcher = jit(**options)(kernel)
    KERNELS.append(dispatcher)
    return dispatcher


def serial(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile ``kernel`` for one thread; other kernels may call it."""
    return cast(Callable[P, R], _compile(kernel, threads=False))


def parallel(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile ``kernel`` with its ``prange`` loops spread over threads; call it from Python only, one at a time."""
    dispatcher = _compile(kernel, threads=True)

    def enter(*args: P.args, **kwargs: P.kwargs) -> R:
        with _entrance:
            return cast(R, dispatcher(*args, **kwargs))

    return update_wrapper(enter, kernel)
