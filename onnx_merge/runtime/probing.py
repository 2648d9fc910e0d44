"""Finds out by a small model which provider works here, and how many threads it takes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.parser

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.runtime.cuda_driver import first_device
from onnx_merge.runtime.onnxruntime_import import onnxruntime, silenced
from onnx_merge.runtime.providers import CPU, ProviderChoice, ProviderName
from onnx_merge.runtime.session import Session


def available_provider(requested: Literal["auto"] | ProviderName = "auto") -> ProviderChoice:
    """The provider to run on. Whether CUDA works is tested once, without output on standard error.

    Raises
    ------
    UsageError: CUDA or TensorRT was requested and does not work on this machine.
    """
    if requested == "cpu":
        return CPU
    works, reason = _works("cuda")
    if requested == "tensorrt" and works:
        works, reason = _works("tensorrt")
    if works:
        return ProviderChoice("cuda" if requested == "auto" else requested, reason)
    if requested != "auto":
        raise UsageError(f"{_NAMES[requested]} does not work here: {reason}; use --provider auto or cpu")
    return ProviderChoice("cpu", reason)


@functools.cache
def default_threads() -> int | None:
    """The default number of threads within an operator on the CPU; None if the operating system does not show it.

    onnxruntime has no function that returns it, and does not log it. The threads that a session starts are therefore
    counted. The thread that calls `Session.run` works with them, and is included.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return None
    onnxruntime()  # the import starts threads too
    before = len(list(tasks.iterdir()))
    session = Session(_probe())
    started = len(list(tasks.iterdir())) - before
    del session
    return started + 1 if started >= 0 else None


def _probe() -> onnx.ModelProto:
    """A minimal model with a convolution."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> probe (float[1,1,2,2] x) => (float[1,1,2,2] y)'
        "<float[1,1,1,1] w = {2}> { y = Conv(x, w) }"
    )


_NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT"}
_REMEDY = {"cuda": " (pip install onnx_merge[gpu])", "tensorrt": " (pip install tensorrt-cu12 or tensorrt-cu13)"}


@functools.cache
def _works(name: Literal["cuda", "tensorrt"]) -> tuple[bool, str]:
    """Whether a model with a convolution runs on the provider, and the device or the reason why not."""
    device = first_device()
    if not device:
        return False, "no NVIDIA device"
    ort = onnxruntime()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False, f"{device} is here, but the installed onnxruntime is the CPU build: install onnxruntime-gpu"
    x = np.ones((1, 1, 2, 2), np.float32)
    with silenced():
        ort.preload_dlls()
        try:
            session = Session(_probe(), ProviderChoice(name, "probe"), deployed=name == "tensorrt")
            on_device = session.provider_used == f"{'Tensorrt' if name == 'tensorrt' else 'CUDA'}ExecutionProvider"
            works = on_device and bool(np.allclose(session.run({"x": x})["y"], 2 * x))
            problem = f"onnxruntime could not load its {_NAMES[name]} provider"
        except OnnxMergeError as error:
            works, problem = False, str(error)
    if works:
        return True, device
    needed = "is TensorRT" if name == "tensorrt" else "are CUDA and cuDNN"
    return False, f"{device} is here, but {problem}: {needed} installed{_REMEDY[name]}?"
