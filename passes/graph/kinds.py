"""Finds tensors that hold integers or booleans instead of floating-point numbers."""

from __future__ import annotations

import onnx

from passes.shapes.constants import FLOATS, INFERENCE_ERRORS, STANDARD_DOMAINS
from passes.shapes.inference import skeleton

INTEGER_OPS = {
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsInf", "IsNaN",
    "Shape", "Size", "ArgMax", "ArgMin", "NonZero", "QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger",
    "MatMulInteger", "Multinomial", "QLinearConv", "QLinearMatMul",
}  # fmt: skip
"""Ops whose output is integer or boolean for any input type."""
SECOND = {"TopK", "MaxPool", "Dropout", "Unique"}
"""Ops whose outputs after the first are positions or a mask."""
TYPED_BY = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "Where": 1}
"""Ops whose output has the type of an input other than the first."""
TYPES = {"Bernoulli": "dtype", "Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype",
         "RandomUniformLike": "dtype"}  # fmt: skip
"""The attribute that holds the type of the output, if it is given."""
DEFAULT_FLOATS = {"BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"}
"""Ops of integers that give floats where attribute ``output_datatype`` names no other type."""
INFERRED = {"If", "Loop", "Scan"}
"""Ops whose outputs have the types of those of their bodies, which ONNX infers. So are those of ai.onnx.ml."""


def integer_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of integer and boolean tensors of the main graph, as far as the ops that compute them are
    known."""
    found = {t.name for t in model.graph.initializer if t.data_type not in FLOATS}
    for value in model.graph.input:
        if value.type.tensor_type.elem_type not in (onnx.TensorProto.UNDEFINED, *FLOATS):
            found.add(value.name)
    types: dict[str, int] | None = None
    for node in model.graph.node:
        if node.domain == "ai.onnx.ml" or (node.domain in STANDARD_DOMAINS and node.op_type in INFERRED):
            types = inferred_types(model) if types is None else types
            found.update(name for name in node.output if types.get(name, onnx.TensorProto.FLOAT) not in FLOATS)
        elif node.domain in STANDARD_DOMAINS:
            integers = _gives_integers(node, found)
            found.update(node.output if integers else node.output[1:] if node.op_type in SECOND else ())
    return frozenset(found - {""})


def inferred_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of the tensors of the main graph, as far as ONNX infers them."""
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton(model, {})).graph
    except INFERENCE_ERRORS:
        return {}
    found = {t.name: t.data_type for t in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            found[value.name] = value.type.tensor_type.elem_type
    return found


def _gives_integers(node: onnx.NodeProto, found: set[str]) -> bool:
    """Whether the node's first output is integer or boolean, if those of its inputs in ``found`` are."""
    if node.op_type in INTEGER_OPS:
        return True
    if node.op_type in DEFAULT_FLOATS:
        return any(a.name == "output_datatype" and a.i not in FLOATS for a in node.attribute)
    named = [a.i for a in node.attribute if a.name == TYPES.get(node.op_type)]
    if named:
        return named[0] not in FLOATS
    if node.op_type in ("Constant", "ConstantOfShape"):
        held = {a.name: a.t.data_type for a in node.attribute}
        return held.get("value", onnx.TensorProto.FLOAT) not in FLOATS or bool(
            held.keys() & {"value_int", "value_ints"}
        )
    k = TYPED_BY.get(node.op_type, 0)
    return k < len(node.input) and node.input[k] in found
