"""Finds out by a small model which provider works here, and how many threads it takes."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx.parser

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.runtime.onnxruntime_import import onnxruntime, silenced
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session


def available_provider(requested: Literal["auto", "cpu", "cuda"] = "auto") -> ProviderChoice:
    """The provider to run on. Whether CUDA works is tested once, without output on standard error.

    Raises
    ------
    UsageError: CUDA was requested and does not work on this machine.
    """
    if requested == "cpu":
        return CPU
    works, reason = _cuda()
    if works:
        return ProviderChoice("cuda", reason)
    if requested == "cuda":
        raise UsageError(f"CUDA does not work here: {reason}; use --provider auto or cpu")
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


@functools.cache
def _cuda() -> tuple[bool, str]:
    """Whether a model with a convolution runs on CUDA, and the device or the reason why not."""
    device = _first_device()
    if not device:
        return False, "no NVIDIA device"
    ort = onnxruntime()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return False, f"{device} is here, but the installed onnxruntime is the CPU build: install onnxruntime-gpu"
    x = np.ones((1, 1, 2, 2), np.float32)
    with silenced():
        ort.preload_dlls()
        try:
            session = Session(_probe(), ProviderChoice("cuda", "probe"))
            on_device = session._session.get_providers()[0] == "CUDAExecutionProvider"
            works = on_device and bool(np.allclose(session.run({"x": x})["y"], 2 * x))
            problem = "onnxruntime could not load its CUDA provider"
        except OnnxMergeError as error:
            works, problem = False, str(error)
    if works:
        return True, device
    return False, f"{device} is here, but {problem}: are CUDA and cuDNN installed (pip install onnx_merge[gpu])?"


def _first_device() -> str:
    """The name of the first NVIDIA device, empty if there is none. The driver is asked, since onnxruntime would print
    errors."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:  # no driver
        return ""
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return ""
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, 128, device):
        return "an NVIDIA device"
    return name.value.decode(errors="replace")
