"""Sets up Numba's compiler, with types: ``@serial`` keeps a kernel's signature for mypy.

Compilation is lazy, for the one signature with which the wrappers in this folder call a kernel. The machine code is
cached on disk: the first run on a machine compiles, later runs load it (some milliseconds a kernel). ``fastmath`` is
off: NaN handling and the order of sums stay as written, so a result does not depend on the machine's vector width.

A kernel calls only kernels of its own file. Numba's cache notices a change of the file that a kernel is in, not of a
file that it calls into.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

# The dispatchers of all kernels in order of definition, for tests and timing.
KERNELS: list[Any] = []


def serial(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile ``kernel`` for one thread; other kernels may call it."""
    # error_model: a division by zero gives inf as in NumPy. Python's model puts a branch that raises in every loop that
    # divides; the kernels test for zero norms themselves.
    # nogil: kernels touch arrays alone, so that threads may run several of them.
    options = {"error_model": "numpy", "nogil": True}
    jit: Any = numba.njit  # typed in some releases only
    try:
        dispatcher = jit(cache=True, **options)(kernel)
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        dispatcher = jit(**options)(kernel)
    KERNELS.append(dispatcher)
    return cast(Callable[P, R], dispatcher)


def compiled_before() -> bool:
    """Whether machine code of the kernels that were imported is on disk, or none can be kept there. A run compiles only
    those that it calls, so that some never are."""
    files = (getattr(getattr(kernel, "_cache", None), "_cache_file", None) for kernel in KERNELS)
    indices = [path for path in (getattr(file, "_index_path", None) for file in files) if path]
    return not indices or any(Path(path).exists() for path in indices)
