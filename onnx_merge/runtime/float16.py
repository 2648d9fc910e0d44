"""Converts a model to float16 with onnxruntime's tool, and mends the order and places of nodes that the tool adds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Set

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.io.save import needs_external_data
from onnx_merge.runtime.onnxruntime_import import tool
from passes.graph.nodes import replace_nodes, sort_nodes, subgraphs

FLOAT16 = onnx.TensorProto.FLOAT16
ADDED = ("_cast_to_fp32_node", "_cast_to_fp16_node")
"""Ends of the names of the casts that the tool puts around nodes that take no float16."""


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and activations; inputs and outputs keep their types. ``model`` is changed.

    Raises
    ------
    OnnxMergeError: the result would not be valid.
    """
    with warnings.catch_warnings():  # of numbers that are too small or too large for float16, which it clips
        warnings.simplefilter("ignore")
        made = tool("onnxruntime.transformers.float16").convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=needs_external_data(model)
        )
    assert isinstance(made, onnx.ModelProto)
    _place_casts(made.graph)
    for graph in _graphs(made.graph):
        sort_nodes(graph)
    if lost := next(_undefined(made.graph, frozenset()), None):
        problem = f"onnxruntime's tools cannot convert the model to fp16: nothing makes {lost} where a node reads it"
        raise OnnxMergeError(f"{problem}; leave out --then")
    return made


def reads_float16(graph: onnx.GraphProto, outer: Set[str] = frozenset()) -> int:
    """Return how many nodes other than casts read what is known to be float16: inputs, constants and results of
    casts. ``outer``: such names in the graphs around this one."""
    known = {v.name for v in graph.input if v.type.tensor_type.elem_type == FLOAT16}
    known |= outer | {t.name for t in graph.initializer if t.data_type == FLOAT16}
    for node in graph.node:
        kinds = {a.i if node.op_type == "Cast" else a.t.data_type for a in node.attribute if a.name in ("to", "value")}
        known.update(node.output if node.op_type in ("Cast", "Constant") and FLOAT16 in kinds else ())
    readers = len([n for n in graph.node if n.op_type != "Cast" and not known.isdisjoint(n.input)])
    return readers + sum(reads_float16(inner, known) for node in graph.node for inner in subgraphs(node))


def _place_casts(graph: onnx.GraphProto) -> None:
    """Move the added casts of what a subgraph makes into it, and leave out repeated ones: the tool appends one for each
    reader to the main graph, wherever the reader is."""
    casts = {n.SerializeToString(): n for n in graph.node if n.op_type == "Cast" and n.name.endswith(ADDED)}
    others = [n for n in graph.node if n.SerializeToString() not in casts]
    outside = {v.name for v in (*graph.input, *graph.initializer)} | {name for n in others for name in n.output}
    inside: dict[str, list[onnx.GraphProto]] = {}
    for inner in (g for node in others for g in subgraphs(node)):
        for each in _graphs(inner):
            for name in _own(each):
                inside.setdefault(name, []).append(each)
    waiting, staying = list(casts.values()), list[onnx.NodeProto]()
    while placeable := [n for n in waiting if n.input[0] in outside or n.input[0] in inside]:
        for node in placeable:
            if node.input[0] in outside:
                staying.append(node)
                outside.update(node.output)
                continue
            inside[node.output[0]] = inside[node.input[0]]
            for each in inside[node.input[0]]:
                each.node.add().CopyFrom(node)
        waiting = [n for n in waiting if n not in placeable]
    replace_nodes(graph, [*others, *staying, *waiting])


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _own(graph: onnx.GraphProto) -> set[str]:
    """Return the names of what ``graph`` itself holds before its nodes run, and makes."""
    given = {v.name for v in (*graph.input, *graph.initializer)} | {t.values.name for t in graph.sparse_initializer}
    return given.union(*(node.output for node in graph.node)) - {""}


def _undefined(graph: onnx.GraphProto, outer: Set[str]) -> Iterator[str]:
    """Yield names that a node reads before anything makes them."""
    known = outer | (_own(graph) - {name for node in graph.node for name in node.output})
    for node in graph.node:
        yield from (name for name in node.input if name and name not in known)
        for inner in subgraphs(node):
            yield from _undefined(inner, known)
        known |= set(node.output)
    yield from (v.name for v in graph.output if v.name not in known)
