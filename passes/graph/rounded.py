"""Finds integer outputs that hold rounded numbers, such as the pixels of an image, instead of classes or indices."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from passes.graph.kinds import integer_tensors

MOVING = {
    "Cast", "Clip", "Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "Max", "Min", "Pad", "Reshape", "Resize",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Ops whose output holds values of their first input, or limits of these."""
ROUNDING = {"Ceil", "Floor", "Round"}
QUANTISING = {"DynamicQuantizeLinear", "QLinearAdd", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}


def rounded_outputs(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of integer outputs that are computed from floating-point numbers by rounding alone.

    Numbers of classes come from ArgMax, TopK or comparisons, possibly by way of floating-point numbers.
    """
    integers = integer_tensors(model)
    makers = {name: node for node in model.graph.node for name in node.output if name}
    return frozenset(o.name for o in model.graph.output if o.name in integers and _is_rounded(o.name, makers, integers))


def _is_rounded(name: str, makers: Mapping[str, onnx.NodeProto], integers: frozenset[str]) -> bool:
    """Whether the integers of tensor ``name`` are rounded numbers."""
    rounded = False
    while (node := makers.get(name)) is not None:
        if node.op_type in QUANTISING:
            return True
        if node.op_type not in MOVING | ROUNDING:
            break
        name = node.input[0]
        rounded |= name not in integers
    return rounded and name not in integers
