"""Separates initializers that callers may override as graph inputs from those that are merely listed as inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx

from passes.shapes.constants import constants_in


def overridable(model: onnx.ModelProto) -> set[str]:
    """Return the initializers that callers may override, whose values are therefore unknown.

    From IR version 4 on, an initializer that is also an input is a default value. If every initializer is listed, the
    exporter follows the older convention, and they are constants.
    """
    stored, listed = _names(model.graph)
    return set() if lists_all(model) else stored & listed


def lists_all(model: onnx.ModelProto) -> bool:
    """Whether every initializer is listed among the inputs, or has to be (before IR version 4)."""
    if model.ir_version < 4:
        return True
    stored, listed = _names(model.graph)
    if not stored or not stored <= listed:
        return False
    # If the weights are in Constant nodes, the only initializers may be the default values.
    return _elements(constants_in(model.graph.node)) <= _elements(model.graph.initializer)


def unlist_constants(model: onnx.ModelProto) -> None:
    """Remove initializers that are merely listed from the inputs, in place, where the IR version permits it.

    onnxruntime takes listed initializers for values that change: it fuses no layers with them and does not store them
    in the layout of its kernels. Such a model runs several times slower.
    """
    if model.ir_version < 4 or not lists_all(model):
        return
    stored, _ = _names(model.graph)
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def list_initializers(model: onnx.ModelProto) -> None:
    """Add every initializer to the inputs, in place, where the IR version requires it (before 4)."""
    if model.ir_version >= 4:
        return
    graph = model.graph
    listed = {v.name for v in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in graph.initializer
        if t.name not in listed
    )


def _names(graph: onnx.GraphProto) -> tuple[set[str], set[str]]:
    return {t.name for t in graph.initializer}, {v.name for v in graph.input}


def _elements(tensors: Iterable[onnx.TensorProto]) -> int:
    return sum(math.prod(t.dims) for t in tensors)
