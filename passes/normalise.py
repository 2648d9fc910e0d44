"""Normalise: one form for what exporters write in several ways, so that later passes need not know them all.

- calls of local functions are inlined;
- Constant nodes become initializers of the same name;
- Identity and layout ops on an initializer are folded into it where that costs no second copy of a large weight.

Weights and names are otherwise left as they are; the input model is not modified.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.inliner

from passes.graph.evaluate import evaluate
from passes.graph.shapes import SMALL

FOLDED = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
"""Ops that only move a constant's values about."""


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A normalised copy of ``model``."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if result.functions:
        result = onnx.inliner.inline_local_functions(result)
    _constants_to_initializers(result.graph)
    _fold_layout(result)
    return result


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = _constant_value(node) if node.op_type == "Constant" and node.domain in ("", "ai.onnx") else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    replace_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor a Constant node holds; sparse and string-list constants stay nodes."""
    (attribute,) = node.attribute
    if attribute.name == "value":
        tensor: onnx.TensorProto = attribute.t
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    return onnx.numpy_helper.from_array(
        np.asarray(onnx.helper.get_attribute_value(attribute), kinds[attribute.name]), node.output[0]
    )


def _fold_layout(model: onnx.ModelProto) -> None:
    graph = model.graph
    initializers = {t.name: t for t in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    fixed = {v.name for v in graph.output} | {v.name for v in graph.input}
    opsets = {o.domain: o.version for o in model.opset_import}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        source = initializers.get(node.input[0]) if node.input else None
        foldable = (
            source is not None
            and node.op_type in FOLDED
            and node.domain in ("", "ai.onnx")
            and all(name in initializers for name in node.input if name)
            and node.output[0] not in fixed
            and (readers[source.name] == 1 or int(np.prod(source.dims)) <= SMALL)
        )
        feeds = {n: onnx.numpy_helper.to_array(initializers[n]) for n in node.input if n} if foldable else {}
        values = evaluate(node, opsets, feeds) if foldable else {}
        if not values:
            kept.append(node)
        for name, value in values.items():
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
            initializers[name] = graph.initializer[-1]
    if len(kept) < len(graph.node):
        replace_nodes(graph, kept)
        drop_unused_initializers(graph)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Let ``graph`` have only ``nodes``, some of its own."""
    if len(nodes) < len(graph.node):
        copies = [onnx.NodeProto() for _ in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del graph.node[:]
        graph.node.extend(copies)


def node_reads(node: onnx.NodeProto) -> set[str]:
    """Every tensor name that a node or a graph inside it reads."""
    read = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
            read.update(v.name for v in inner.output)
            read.update(name for n in inner.node for name in node_reads(n))
    return read


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Remove initializers that nothing reads, and the graph inputs that stood for them."""
    read = {v.name for v in graph.output}.union(*(node_reads(node) for node in graph.node))
    unused = {t.name for t in graph.initializer if t.name not in read}
    if unused:
        for items in (graph.initializer, graph.input):
            for index in reversed([i for i, item in enumerate(items) if item.name in unused]):
                del items[index]
