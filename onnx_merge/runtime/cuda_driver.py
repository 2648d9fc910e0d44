"""Asks the driver of NVIDIA devices, without a library of CUDA's and without output on standard error."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any


def _driver() -> Any:
    """The driver's library, initialised; None without a driver or a device."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:  # no driver
        return None
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    return cuda


def first_device() -> str:
    """Name of the first NVIDIA device, empty if there is none. The driver is asked, since onnxruntime would print
    errors."""
    cuda = _driver()
    if cuda is None:
        return ""
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, 128, device):
        return "an NVIDIA device"
    return name.value.decode(errors="replace")


def available_memory() -> int:
    """Free bytes of the first NVIDIA device; 0 if there is none, or if the driver does not say."""
    cuda = _driver()
    if cuda is None:
        return 0
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with _in_context(cuda) as entered:
        if not entered or cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
            return 0
    return free.value


@contextlib.contextmanager
def _in_context(cuda: Any) -> Iterator[bool]:
    """In the block, the context of the first device that onnxruntime uses too; yields whether it is."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        yield False
        return
    try:
        entered = not cuda.cuCtxPushCurrent_v2(context)
        try:
            yield entered
        finally:
            if entered:
                cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
