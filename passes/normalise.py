"""Normalise: one form for what exporters write in several ways, so that later passes need not know them all.

- calls of local functions are inlined;
- Constant nodes become initializers of the same name;
- first states of recurrent layers that are zero are left out;
- what is computed from initializers alone (layout changes, weight standardisation, scaled weights) is computed once,
  where that costs no second copy of a large weight and does not grow; quantised weights stay as they are.

Weights and names are otherwise left as they are; the input model is not modified.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray

from passes.graph.evaluate import evaluate
from passes.graph.shapes import GROWING, NOT_EVALUATED, SMALL
from passes.zero_states import drop_zero_states

NARROW = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
"""Ops whose narrow operand is what is to be stored."""
MISJUDGED = {"Softmax", "LogSoftmax", "Hardmax", "LRN", "GlobalMaxPool", "RoiAlign"}
"""Ops that onnx's reference implementation gets wrong at some opset or rank."""


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A normalised copy of ``model``."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if result.functions:
        result = onnx.inliner.inline_local_functions(result)
    _constants_to_initializers(result.graph)
    drop_zero_states(result.graph)
    _fold_constants(result)
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


def _fold_constants(model: onnx.ModelProto) -> None:
    graph = model.graph
    initializers = {t.name: t for t in graph.initializer}
    fixed = {v.name for v in graph.output}
    opsets = {o.domain: o.version for o in model.opset_import}
    known: dict[str, NDArray[Any]] = {}
    folded: set[str] = set()
    private = _private(graph, initializers.keys(), fixed)
    for node in graph.node:
        if not _is_foldable(node, initializers.keys() | known.keys(), fixed):
            continue
        feeds = {n: known[n] if n in known else onnx.numpy_helper.to_array(initializers[n]) for n in node.input if n}
        if any(v.size > SMALL and n not in private for n, v in feeds.items()) or _blows_up(node, feeds):
            continue
        results = evaluate(node, opsets, feeds)
        room = max(SMALL * 8, sum(v.nbytes for v in feeds.values()))
        if len(results) == sum(n != "" for n in node.output) and sum(v.nbytes for v in results.values()) <= room:
            known |= results
            folded.update(results)
    if folded:
        replace_nodes(graph, [node for node in graph.node if not folded & set(node.output)])
        read = set().union(*(node_reads(node) for node in graph.node))
        for name in folded & read:
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(known[name]), name))
        drop_unused_initializers(graph)


def _is_foldable(node: onnx.NodeProto, constants: Set[str], fixed: Set[str]) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in NOT_EVALUATED | NARROW | MISJUDGED
        and any(node.input)
        and all(not n or n in constants for n in node.input)
        and not fixed & set(node.output)
        and not any(a.HasField("g") or a.graphs for a in node.attribute)
    )


def _blows_up(node: onnx.NodeProto, feeds: dict[str, NDArray[Any]]) -> bool:
    """Whether ``node`` makes much of little; a few integers, as exporters compute shapes with, are none."""
    counts = any(a.name == "value" and a.t.data_type == onnx.TensorProto.INT64 for a in node.attribute)
    few = node.op_type == "ConstantOfShape" and counts and math.prod(int(n) for n in feeds[node.input[0]]) <= SMALL
    return node.op_type in GROWING and not few


def _private(graph: onnx.GraphProto, initializers: Set[str], fixed: Set[str]) -> set[str]:
    """Constants that only foldable nodes read: none of them stays beside what is computed from it."""
    constants, public = set(initializers), set(fixed)
    for node in graph.node:
        if _is_foldable(node, constants, fixed):
            constants.update(n for n in node.output if n)
        else:
            public |= node_reads(node)
    return constants - public


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
