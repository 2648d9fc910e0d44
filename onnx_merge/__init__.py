"""Smaller, faster ONNX models without training.

Nothing is imported until it is used: onnx, numba and onnxruntime together take a second, and `--help` should not wait.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_merge.errors import (
        FidelityError,
        InputError,
        NothingToDoError,
        OnnxMergeError,
        StructureError,
        UnverifiedError,
        UsageError,
    )
    from onnx_merge.inspecting import inspect_model
    from onnx_merge.inspection import Inspection
    from onnx_merge.options import Options
    from onnx_merge.result import Result
    from onnx_merge.run import optimize
    from onnx_merge.sweep_result import Point, Sweep
    from onnx_merge.sweeping import sweep
    from onnx_merge.verification import Verification
    from onnx_merge.verifying import verify

if "numpy" not in sys.modules:  # which reads it: see `passes.numerics.blas`
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = "0.1.0"

__all__ = [
    "FidelityError",
    "InputError",
    "Inspection",
    "NothingToDoError",
    "OnnxMergeError",
    "Options",
    "Point",
    "Result",
    "StructureError",
    "Sweep",
    "UnverifiedError",
    "UsageError",
    "Verification",
    "__version__",
    "inspect_model",
    "optimize",
    "sweep",
    "verify",
]

# No module may have the name of a function here: importing it would put the module in the function's place.
_MODULES = {
    "Inspection": "inspection",
    "Options": "options",
    "Point": "sweep_result",
    "Result": "result",
    "Sweep": "sweep_result",
    "inspect_model": "inspecting",
    "optimize": "run",
    "sweep": "sweeping",
    "verify": "verifying",
    "Verification": "verification",
}
"""Where a public name is; the errors are in `onnx_merge.errors`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}")
    value: object = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
