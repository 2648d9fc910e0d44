"""Separates initializers that callers may override as graph inputs from those that are merely listed as inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx


def overridable(model: onnx.ModelProto) -> set[str]:
    """Return the initializers that callers may override, whose values are therefore unknown.

    From IR version 4 on, an initializer that is also an input is a default value. If every initializer is listed, the
    exporter follows the older convention, and they are constants.
    """
    stored, listed = _names(model.graph)
    return set() if lists_all(model) else stored & listed


SIZING = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Pad", "TopK", "Split", "Squeeze", "Unsqueeze", "OneHot"), (1,)),
    **dict.fromkeys(("Slice", "Resize", "Upsample"), (1, 2, 3, 4)),
    **dict.fromkeys(("CumSum", "Trilu", "CenterCropPad", "AffineGrid", "Compress", "MaxUnpool"), (1, 2)),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"), (1,)),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), (1,)),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
}
"""Op -> inputs that determine the size or the axes of the output."""


def overridden_sizes(model: onnx.ModelProto) -> dict[int, str]:
    """Return the nodes of the main graph whose output's size or axes callers determine.

    By position: index of the node -> the overridable tensor that it depends on.
    """
    decided = overridable(model)
    found: dict[int, str] = {}
    for index, node in enumerate(model.graph.node) if decided else ():
        places = SIZING.get(node.op_type, ()) if node.domain in ("", "ai.onnx") else ()
        says = [node.input[k] for k in places if k < len(node.input) and node.input[k] in decided]
        if says:
            found[index] = says[0]
        if node.op_type not in ("Shape", "Size") and decided.intersection(node.input):
            decided.update(n for n in node.output if n)
    return found


def lists_all(model: onnx.ModelProto) -> bool:
    """Whether every initializer is listed among the inputs, or has to be (before IR version 4)."""
    if model.ir_version < 4:
        return True
    stored, listed = _names(model.graph)
    if not stored or not stored <= listed:
        return False
    # If the weights are in Constant nodes, the only initializers may be the default values.
    return _elements(_held(model.graph.node)) <= _elements(model.graph.initializer)


def list_initializers(graph: onnx.GraphProto) -> None:
    """Add every initializer to the inputs."""
    listed = {v.name for v in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in graph.initializer
        if t.name not in listed
    )


def _names(graph: onnx.GraphProto) -> tuple[set[str], set[str]]:
    return {t.name for t in graph.initializer}, {v.name for v in graph.input}


def _held(nodes: Iterable[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Return the tensors in Constant nodes."""
    return [a.t for node in nodes if node.op_type == "Constant" for a in node.attribute if a.name == "value"]


def _elements(tensors: Iterable[onnx.TensorProto]) -> int:
    return sum(math.prod(t.dims) for t in tensors)
