"""Imports onnxruntime silently, and shortens its error messages to one line.

onnxruntime takes a third of a second to import and can print warnings on machines without a GPU. It is therefore
imported on first use, with its output suppressed. Nothing outside this folder imports it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

from onnx_merge.errors import OnnxMergeError, one_line


def runtime_line(error: Exception) -> str:
    """onnxruntime's error message on one line, without error numbers and source locations."""
    text = one_line(str(error), limit=4000)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)\s*(const )?", "", text)
    text = re.sub(
        r"ONNX Runtime only \*guarantees\*.*?Opset (\d+) .*?Current", r"opset \1 is too new for it. Current", text
    )
    return text or type(error).__name__


@functools.cache
def onnxruntime() -> Any:
    """The onnxruntime module, imported silently: its search for devices can print irrelevant warnings."""
    try:
        with silenced():
            return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise OnnxMergeError(f"onnxruntime cannot be imported: {error}; reinstall it with pip") from error


def tool(module: str) -> Any:
    """A module of onnxruntime's tools, such as ``onnxruntime.quantization``."""
    onnxruntime()  # which reports a missing installation
    with silenced():
        return importlib.import_module(module)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppress standard output and error, both from Python and from C."""
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "wb"))
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):  # the parent process closed it
                copy = os.dup(descriptor)
                stack.callback(os.close, copy)
                stack.callback(os.dup2, copy, descriptor)
                os.dup2(null.fileno(), descriptor)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
