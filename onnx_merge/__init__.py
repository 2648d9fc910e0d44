"""Smaller, faster ONNX models without training.

Nothing is imported until it is used: onnx, numba and onnxruntime together take a second, and `--help` should not wait.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from onnx_merge.config.version import __version__

if TYPE_CHECKING:
    from onnx_merge.compression.optimize import optimize
    from onnx_merge.config.options import Options
    from onnx_merge.errors import (
        FidelityError,
        InputError,
        NotCompressibleError,
        OnnxMergeError,
        StructureError,
        UnverifiedError,
        UsageError,
    )
    from onnx_merge.inspection.findings import Inspection
    from onnx_merge.inspection.inspect import inspect_model
    from onnx_merge.plugins.registration import register_pass, register_rule
    from onnx_merge.report.result import Result
    from onnx_merge.sweeping.result import Point, Sweep
    from onnx_merge.sweeping.sweep import sweep
    from onnx_merge.verification.findings import Verification
    from onnx_merge.verification.verify import verify

if "numpy" not in sys.modules:  # which reads it: see `passes.numerics.threads`
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__all__ = [
    "FidelityError",
    "InputError",
    "Inspection",
    "NotCompressibleError",
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
    "register_pass",
    "register_rule",
    "sweep",
    "verify",
]

# No module may have the name of a function here: importing it would put the module in the function's place.
_MODULES = {
    "Inspection": "inspection.findings",
    "Options": "config.options",
    "Point": "sweeping.result",
    "Result": "report.result",
    "Sweep": "sweeping.result",
    "Verification": "verification.findings",
    "inspect_model": "inspection.inspect",
    "optimize": "compression.optimize",
    "register_pass": "plugins.registration",
    "register_rule": "plugins.registration",
    "sweep": "sweeping.sweep",
    "verify": "verification.verify",
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
