"""Replaces If nodes with a constant condition by the nodes of the branch that runs.

Before:  y = If(c) <then: t = Relu(x), else: u = Neg(x)>, c a constant     After:  y = Relu(x), where c is true

The branch's outputs take the names of the If's outputs. Names that occur elsewhere in the model are made unique. Names
that the branch reads from outside stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import numpy_helper

from passes.graph.nodes import fresh
from passes.shapes.constants import STANDARD
from passes.shapes.overridable_inputs import overridable


def decide_branches(model: onnx.ModelProto) -> bool:
    """Replace, in place, the If nodes of the main graph whose condition is a constant. Returns whether there were
    any."""
    count = 0
    while _decide_one(model):
        count += 1
    return count > 0


def _decide_one(model: onnx.ModelProto) -> bool:
    graph, defaults = model.graph, overridable(model)
    known = {t.name: t for t in graph.initializer if t.name not in defaults}
    at = next((i for i, node in enumerate(graph.node) if _is_decided(node, known)), None)
    if at is None:
        return False
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[at])
    condition = numpy_helper.to_array(known[node.input[0]])
    wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    branch = next(a.g for a in node.attribute if a.name == wanted)
    del graph.node[at]
    made = _made(branch)
    taken = set(_names(graph)) | set(node.output)
    names = {n: n if n not in taken else fresh(f"{node.output[0]}.{n}", taken | made) for n in sorted(made)}
    joints: list[onnx.NodeProto] = []
    direct = {n for inner in branch.node for n in inner.output}
    for value, outer in zip(branch.output, node.output, strict=True):
        if value.name in direct and outer:
            names[value.name] = outer
            direct.remove(value.name)
        elif outer:  # read from outside, a constant, or given twice
            joints.append(onnx.helper.make_node("Identity", [names.get(value.name, value.name)], [outer], outer))
    _rename(branch, names)
    labels = {n.name for n in graph.node}
    for inner in branch.node:
        if inner.name in labels:
            inner.name = fresh(f"{node.name or node.output[0]}.{inner.name}", labels) if inner.name else ""
        labels.add(inner.name)
    nodes = [*graph.node[:at], *branch.node, *joints, *graph.node[at:]]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(branch.initializer)
    graph.sparse_initializer.extend(branch.sparse_initializer)
    described = {v.name for v in (*graph.value_info, *graph.output)}
    graph.value_info.extend(v for v in branch.value_info if v.name not in described)
    return True


def _is_decided(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    return node.op_type == "If" and node.domain in STANDARD and node.input[0] in known


def _inner(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graphs in attributes of nodes of ``graph``, not the graphs nested in them."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _made(graph: onnx.GraphProto) -> set[str]:
    """Every tensor that ``graph`` or a graph nested in it defines."""
    found = {n for node in graph.node for n in node.output if n}
    found |= {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    found |= {v.name for v in graph.input}
    return found.union(*(_made(inner) for inner in _inner(graph)))


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor name that occurs in ``graph`` or in a graph nested in it."""
    yield from (v.name for v in (*graph.input, *graph.output))
    yield from (t.name for t in graph.initializer)
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)
    for inner in _inner(graph):
        yield from _names(inner)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors in ``graph`` and in the graphs nested in it."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(n, n) for n in side]
    for inner in _inner(graph):
        _rename(inner, names)
