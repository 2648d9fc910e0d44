"""Tidy: drop what nothing reads any more, and record the shapes as they are now."""

from __future__ import annotations

import onnx

from passes.graph.shapes import skeleton
from passes.normalise import drop_unused_initializers, names_read


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove dead nodes and unused initializers of ``model`` in place and infer its value_info anew."""
    graph = model.graph
    while dead := [n for n in graph.node if n.output and not names_read(graph) & set(n.output)]:
        for node in dead:
            graph.node.remove(node)
    drop_unused_initializers(graph)
    had_shapes = bool(graph.value_info)
    del graph.value_info[:]
    if had_shapes:
        _infer_value_info(model)
    return model


def _infer_value_info(model: onnx.ModelProto) -> None:
    """Shapes by ONNX inference on a skeleton, so that large weights are not copied about."""
    inferred = onnx.shape_inference.infer_shapes(skeleton(model, {}), data_prop=True)
    produced = {name for node in model.graph.node for name in node.output}
    model.graph.value_info.extend(v for v in inferred.graph.value_info if v.name in produced)
