"""Replaces If nodes with a constant condition by the nodes of the branch that runs.

Before:  y = If(c) <then: t = Relu(x), else: u = Neg(x)>, c a constant     After:  y = Relu(x), where c is true

The branch's outputs take the names of the If's outputs. Names that occur elsewhere in the model are made unique. Names
that the branch reads from outside stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import numpy_helper

from passes.graph.nodes import fresh, names_in, rename_tensors, subgraphs
from passes.shapes.constants import STANDARD_DOMAINS
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
    made = _defined_tensors(branch)
    taken = set(names_in(graph)) | set(node.output)
    names = {n: n if n not in taken else fresh(f"{node.output[0]}.{n}", taken | made) for n in sorted(made)}
    joints: list[onnx.NodeProto] = []
    direct = {n for inner in branch.node for n in inner.output}
    for value, outer in zip(branch.output, node.output, strict=True):
        if value.name in direct and outer:
            names[value.name] = outer
            direct.remove(value.name)
        elif outer:  # read from outside, a constant, or given twice
            joints.append(onnx.helper.make_node("Identity", [names.get(value.name, value.name)], [outer], outer))
    rename_tensors(branch, names)
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
    return node.op_type == "If" and node.domain in STANDARD_DOMAINS and node.input[0] in known


def _defined_tensors(graph: onnx.GraphProto) -> set[str]:
    """Every tensor that ``graph`` or a graph nested in it defines."""
    found = {n for node in graph.node for n in node.output if n}
    found |= {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    found |= {v.name for v in graph.input}
    return found.union(*(_defined_tensors(inner) for node in graph.node for inner in subgraphs(node)))
