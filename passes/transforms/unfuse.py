"""Replaces ops that onnxruntime's optimizer made of several standard ops by these.

Before:  y = FusedConv<activation = "Relu">(x, w, b)     After:  a = Conv(x, w, b), y = Relu(a)

Models are also deployed in the form that the optimizer saves. It fuses these ops again when it loads the result. A node
is left alone if its op has a rule (a plug-in's), or if it has a form that no standard ops compute here.
"""

from __future__ import annotations

import onnx

from passes.axes.registry import find_rule
from passes.graph.nodes import names_in, set_nodes
from passes.shapes.constants import INFERENCE_ERRORS, STANDARD_DOMAINS
from passes.shapes.inference import skeleton
from passes.transforms.fused_node import FusedNode, Kind, StaysFusedError
from passes.transforms.fused_ops import MICROSOFT, REWRITES

ONE_TYPE = ("Add", "Conv", "Gemm", "MatMul", "Mul")
"""Ops whose operands and result have one element type."""


def unfuse(model: onnx.ModelProto) -> None:
    """Replace the fused ops of the main graph of ``model``, in place."""
    if not any(map(_is_fused, model.graph.node)):
        return
    _unfuse_known(model, {})
    # Those that are left stop ONNX's shape inference, and may need to know what others make.
    while any(map(_is_fused, model.graph.node)) and _unfuse_known(model, _kinds(model)):
        pass


def _is_fused(node: onnx.NodeProto) -> bool:
    return node.domain == MICROSOFT and node.op_type in REWRITES and find_rule(MICROSOFT, node.op_type) is None


def _unfuse_known(model: onnx.ModelProto, kinds: dict[str, Kind]) -> bool:
    """Replace the ops of which enough is known. Whether there is any."""
    opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 1)
    taken = {*names_in(model.graph), *(node.name for node in model.graph.node)}
    nodes: list[onnx.NodeProto] = []
    written = 0
    for node in model.graph.node:
        standard = _standard_ops(FusedNode(node, opset, kinds, taken)) if _is_fused(node) else None
        nodes.extend(standard.nodes if standard else [node])
        model.graph.initializer.extend(standard.constants if standard else ())
        written += standard is not None
    if written:
        set_nodes(model.graph, nodes)
    return written > 0


def _standard_ops(node: FusedNode) -> FusedNode | None:
    """The node with what takes its place; None if it stays."""
    try:
        REWRITES[node.kind](node)
    except StaysFusedError:
        return None
    return node


def _kinds(model: onnx.ModelProto) -> dict[str, Kind]:
    """Element types and ranks of the values in the main graph, as far as ONNX infers them."""
    try:
        graph = onnx.shape_inference.infer_shapes(skeleton(model, {}), data_prop=True).graph
    except INFERENCE_ERRORS:
        return {}
    found: dict[str, Kind] = {t.name: (t.data_type, len(t.dims)) for t in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type:
            found[value.name] = kind.elem_type, len(kind.shape.dim) if kind.HasField("shape") else None
    for node in model.graph.node:  # behind ops that ONNX does not know
        known = [found[name][0] for name in node.input if name in found]
        if node.op_type in ONE_TYPE and node.domain in STANDARD_DOMAINS and known:
            found.setdefault(node.output[0], (known[0], None))
    return found
