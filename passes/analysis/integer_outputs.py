"""Finds what integer and boolean outputs hold: classes, rounded numbers such as pixels, or places in an order."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import onnx

from passes.axes.registry import facts_of
from passes.graph.kinds import integer_tensors
from passes.graph.nodes import names_in, subgraphs

MOVING = {
    "Cast", "Clip", "Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "Max", "Min", "Pad", "Reshape", "Resize",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Ops whose output holds values of their first input, or limits of these."""
PICKING = {"ArrayFeatureExtractor", "Gather", "GatherND"}
"""Ops whose output is a class where they pick from a table of constants."""
ROUNDING = {"Ceil", "Floor", "Round"}
PROBABILITIES = {"HardSigmoid", "Sigmoid", "Softmax"}
"""Ops whose output is a class where it is rounded: 0 or 1."""
QUANTISING = {"DynamicQuantizeLinear", "QLinearAdd", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}
ORDERING = {"NonMaxSuppression", "NonZero", "TopK", "Unique"}
"""Ops after which one value more or less moves all those behind it."""


@dataclass(frozen=True)
class IntegerOutputs:
    """``rounded``: computed from floating-point numbers by rounding alone. ``ordered``: in an order that scores decide,
    such as a detector's list. All other integer outputs hold classes."""

    rounded: frozenset[str] = frozenset()
    ordered: frozenset[str] = frozenset()


def integer_outputs(model: onnx.ModelProto) -> IntegerOutputs:
    """Return what the integer outputs of ``model`` hold.

    Numbers of classes come from ArgMax or comparisons, possibly by way of floating-point numbers.
    """
    integers, ordered = integer_tensors(model), _ordered(model)
    makers = {name: node for node in model.graph.node for name in node.output if name}
    names = [o.name for o in model.graph.output if o.name in integers]
    constants = {t.name for t in model.graph.initializer} | {n.output[0] for n in model.graph.node if not n.input}
    rounded = frozenset(name for name in names if _is_rounded(name, makers, integers, constants))
    return IntegerOutputs(rounded, frozenset(names) & ordered - rounded)


def _is_rounded(name: str, makers: Mapping[str, onnx.NodeProto], integers: Set[str], constants: Set[str]) -> bool:
    """Whether the integers of tensor ``name`` are rounded numbers."""
    rounded = False
    while (node := makers.get(name)) is not None:
        if node.op_type in QUANTISING:
            return True
        if node.op_type in PICKING and node.input[0] in constants:
            return False
        if node.op_type not in MOVING | ROUNDING:
            break
        if any(a.name == "to" and a.i == onnx.TensorProto.BOOL for a in node.attribute):
            return False
        name = node.input[0]
        rounded |= name not in integers
    return rounded and name not in integers and (node is None or node.op_type not in PROBABILITIES)


def _ordered(model: onnx.ModelProto) -> set[str]:
    """Tensors of the main graph that are in an order of values, not of sizes. What a layer with weights computes of
    such values, of a point's nearest neighbours for instance, is in none."""
    found: set[str] = set()
    values = {v.name for v in model.graph.input}
    for node in model.graph.node:
        read = {*node.input, *(name for graph in subgraphs(node) for name in names_in(graph))} - {""}
        if node.op_type not in ("Shape", "Size") and read & values:
            made = set(node.output) - {""}
            values |= made
            layer = facts_of(node.domain, node.op_type).linear is not None
            if node.op_type in ORDERING or (read & found and not layer):
                found |= made
    return found
