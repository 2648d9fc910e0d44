"""Faults of a model that only show where its graph is worked on: what onnxruntime says against it is told instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import onnx

from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.runtime.session import Session
from passes.interface.errors import PassError, RunError


@contextlib.contextmanager
def checked_by_running(model: onnx.ModelProto) -> Iterator[None]:
    """Whatever fails in the block without a reason of its own is put down to ``model`` if onnxruntime refuses it.

    Raises
    ------
    InputError: something failed, and onnxruntime cannot load the model.
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
