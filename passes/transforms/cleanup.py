"""Removes dead nodes and unused initializers, and infers the shapes anew.

onnx-ir's RemoveUnusedNodesPass is not used: reading a model into onnx-ir and writing it back drops sparse initializers
and adds shapes of all initializers.
"""

from __future__ import annotations

import onnx

from passes.graph.nodes import drop_unused_initializers, node_reads, replace_nodes
from passes.shapes.inference import skeleton
from passes.shapes.overridable_inputs import list_initializers, overridable


def cleanup(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove dead nodes and unused initializers of ``model`` in place and infer its value_info anew."""
    graph = model.graph
    drop_dead_nodes(graph)
    drop_unused_initializers(graph, overridable(model))
    list_initializers(model)
    had_shapes = bool(graph.value_info)
    del graph.value_info[:]
    if had_shapes:
        _infer_value_info(model)
    return model


def _infer_value_info(model: onnx.ModelProto) -> None:
    """Infer shapes with ONNX on a copy without large weights, so that these are not copied."""
    inferred = onnx.shape_inference.infer_shapes(skeleton(model, {}), data_prop=True)
    produced = {name for node in model.graph.node for name in node.output}
    for value in inferred.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):  # a symbol made up by inference carries no information
                dim.ClearField("dim_param")
        if value.name in produced:
            model.graph.value_info.append(value)


def drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Remove nodes whose outputs nothing reads, in one backward pass from the outputs."""
    read = {v.name for v in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if not node.output or any(name in read for name in node.output):
            kept.append(node)
            read |= node_reads(node)
    replace_nodes(graph, kept[::-1])
