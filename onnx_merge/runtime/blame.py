"""Detects faults of a model that only show while its graph is processed, by whether onnxruntime refuses the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx

from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.runtime.session import Session
from passes.interface.errors import PassError, RunError


@contextlib.contextmanager
def checked_by_running(model: onnx.ModelProto) -> Iterator[None]:
    """Report an unexpected failure in the block as a fault of ``model`` if onnxruntime cannot load it either.

    Raises
    ------
    InputError: the block failed, and onnxruntime cannot load the model; the message is onnxruntime's reason.
    """
    try:
        yield
    except (OnnxMergeError, PassError, RunError, MemoryError):
        raise
    except Exception as error:
        try:
            Session(model, optimisation="basic")
        except OnnxMergeError as why:
            raise InputError(str(why)) from error
        raise
