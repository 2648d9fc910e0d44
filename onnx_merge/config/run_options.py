"""Options that set the inputs with which a model runs, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from onnx_merge.config.definition import CHECKS, HOW, option
from onnx_merge.config.limits import Limits
from onnx_merge.config.value_kinds import FIXED_INPUTS, FLAG, LIBRARIES, SHAPES, TEXT, WHOLE


@dataclass(frozen=True)
class RunOptions:
    """Inputs and execution environment of a model."""

    input_shape: tuple[tuple[str, tuple[int, ...]], ...] = field(
        default=(),
        metadata=option(
            HOW,
            SHAPES,
            "NAME:SIZES",
            "to sample and check at, e.g. input:1,3,224,224",
            "Sizes of dynamic dims at which to sample and check, as `input:1,3,224,224`; in the result they stay "
            "dynamic. MACs are counted there too, else at the samples' sizes, or at small ones that a note names.",
        ),
    )
    fix_shape: tuple[tuple[str, tuple[int, ...]], ...] = field(
        default=(),
        metadata=option(
            HOW,
            SHAPES,
            "NAME:SIZES",
            "declare the shape of a dynamic input",
            "Declare the shape of an input with dynamic dims, in the result too.",
        ),
    )
    fix_input: tuple[tuple[str, Any], ...] = field(
        default=(),
        metadata=option(
            HOW,
            FIXED_INPUTS,
            "NAME=VALUE",
            "make an input a constant: numbers, true, FILE.npy",
            "Make an input a constant, as `rate=16000`, `flag=true`, `gain=1,2,3` or `style=FILE.npy`; from Python "
            "also a number, truth value, list or array. Branches that it decides take the place of their `If`; the "
            "result has no such input.",
        ),
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = field(
        default="auto",
        metadata=option(
            CHECKS,
            TEXT,
            "",
            "where models run ({default})",
            "Where models run. `auto`: on the CPU or on CUDA, whichever is faster for the model by a batch on both; a "
            "note says which. `tensorrt`: latency is measured with TensorRT, all else runs on CUDA.",
            choices=("auto", "cpu", "cuda", "tensorrt"),
        ),
    )
    custom_ops: tuple[str, ...] = field(
        default=(),
        metadata=option(
            CHECKS,
            LIBRARIES,
            "LIBRARY",
            "operators that onnxruntime lacks",
            "A library of operators that onnxruntime does not know: a file (`.so`, `.dll`, `.dylib`), or a package "
            "that names one (`get_library_path`), such as `onnxruntime_extensions`.",
        ),
    )
    unverified: bool = field(
        default=False,
        metadata=option(
            CHECKS,
            FLAG,
            "",
            "write a result although outputs cannot be compared",
            "Write a result although its outputs cannot be compared with the original's: it is `untested`.",
        ),
    )
    seed: int = field(
        default=0,
        metadata=option(
            CHECKS,
            WHOLE,
            "N",
            "seed of all random choices ({default})",
            "Seed of all random choices; at least 0.",
            limits=Limits(0),
        ),
    )
