"""Finds the differentiable stages between two layers: pointwise functions, depthwise convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_indices
from passes.axes.inference import Typing
from passes.axes.op_facts import Moves, PoolWindow
from passes.axes.registry import facts_of, find_gradient
from passes.graph.model import Array, Graph, Node
from passes.layer_pairs.differentiable_ops import Depthwise, Flatten, Pointwise, Pooling, Stage
from passes.shapes.constants import STANDARD_DOMAINS
from passes.statistics.linear_layers import geometry


def stages_between(typing: Typing, start: str, end: str, atom: Atom, keep: Indices) -> list[Stage] | None:
    """Stages from tensor ``start`` to ``end``.

    None where a node outside the path reads its tensors, where there is a second path, or where an op has no stage.
    ``keep``: indices of ``atom`` that the stages' constants keep.
    """
    graph = typing.graph
    nodes = _between(graph, start, end)
    if nodes is None:
        return None
    inside = {start, *(node.outputs[0] for node in nodes)}
    stages: list[Stage] = []
    segment: list[Node] = []
    at = start
    for node in nodes:
        reads = [n for n in node.inputs if n in inside]
        if _is_pointwise(node):
            segment.append(node)
            continue
        if segment:
            stages.append(_pointwise(typing, segment, at, atom, keep))
            at, segment = segment[-1].outputs[0], []
        stage: Stage | None = None
        if reads == [at] and node.inputs[0] == at:
            stage = _depthwise(typing, node, keep) if node.op == "Conv" else _rearranging(typing, node, atom)
        if stage is None:
            return None
        stages.append(stage)
        at = node.outputs[0]
    if segment:
        stages.append(_pointwise(typing, segment, at, atom, keep))
        at = segment[-1].outputs[0]
    return stages if at == end and _closed(graph, nodes, start, stages) else None


def _is_pointwise(node: Node) -> bool:
    """Whether the node has a place in a `Pointwise` stage, whose models declare the standard operators only. An op of
    others may come without a gradient."""
    if node.domain not in STANDARD_DOMAINS or isinstance(find_gradient(node.domain, node.op), str):
        return False
    return facts_of(node.domain, node.op).pointwise and len([n for n in node.outputs if n]) == 1


def _between(graph: Graph, start: str, end: str) -> list[Node] | None:
    """Nodes of the path, in order. None if a tensor inside it is read elsewhere or comes from elsewhere."""
    found: dict[int, Node] = {}
    waiting = [end]
    while waiting:
        name = waiting.pop()
        node = graph.producer.get(name)
        if name == start or name in graph.constants or not name:
            continue
        if node is None or node.captures:
            return None
        if node.index not in found:
            found[node.index] = node
            waiting += node.inputs
    inside = {start, end, *(n for node in found.values() for n in node.outputs if n)}
    for name in inside:
        if name in graph.outputs or name in graph.captured:
            return None
        if sum(user.index not in found for user, _ in graph.users[name]) > (name == end):
            return None
    return [found[i] for i in sorted(found)]


def _closed(graph: Graph, nodes: Sequence[Node], start: str, stages: Sequence[Stage]) -> bool:
    """Whether every pointwise segment reads only its source and constants, and no constant broadcasts it to a larger
    shape."""
    for stage in stages:
        if isinstance(stage, Pointwise):
            known = {stage.source, *stage.constants}
            for node in stage.nodes:
                if any(n and n not in known for n in node.input):
                    return False
                if graph.shape(node.output[0]) != graph.shape(stage.source):  # a constant broadcasts it
                    return False
                known.update(node.output)
    return True


def _pointwise(typing: Typing, segment: Sequence[Node], at: str, atom: Atom, keep: Indices) -> Pointwise:
    graph = typing.graph
    constants: dict[str, Array] = {}
    for node in segment:
        for name in node.inputs:
            if name in graph.constants and graph.knows(name):
                array: Array = graph.array(name)
                for axis, term in enumerate(typing.axes.get(name, ())):
                    array = np.take(array, kept_indices(term, {atom: keep}), axis)
                constants[name] = array
    protos = tuple(_with_bounds_as_inputs(graph, node, constants) for node in segment)
    shape = [len(kept_indices(term, {atom: keep})) for term in typing.axes[at]]
    return Pointwise(protos, at, segment[-1].outputs[0], constants, tuple(shape))


def _with_bounds_as_inputs(graph: Graph, node: Node, constants: dict[str, Array]) -> onnx.NodeProto:
    """``node`` as opset 11 has it: the bounds of a Clip were attributes before, and become inputs, in ``constants``."""
    proto: onnx.NodeProto = graph.model.graph.node[node.index]
    if node.op != "Clip" or not node.attrs:
        return proto
    ends = ["", ""]
    for k, bound in enumerate(("min", "max")):
        if bound in node.attrs:
            ends[k] = f"{node.outputs[0]}.{bound}"
            constants[ends[k]] = np.array(node.attrs[bound], np.float32)
    return onnx.helper.make_node("Clip", [node.inputs[0], *ends], [node.outputs[0]])


def _depthwise(typing: Typing, node: Node, keep: Indices) -> Depthwise | None:
    """The stage of a convolution with as many groups as it has inputs and outputs."""
    graph, attrs = typing.graph, node.attrs
    shape, weights = graph.shape(node.inputs[0]), graph.shape(node.inputs[1])
    known = all(name in graph.initializers for name in node.inputs[1:] if name)
    if shape is None or weights is None or not known or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    if int(attrs.get("group", 1)) != shape[1] or weights[0] != shape[1]:
        return None
    if any((node.inputs[0], axis) in graph.info.dynamic for axis in range(1, len(shape))):  # samples may differ in size
        return None
    strides, pads, dilations = geometry(node, len(shape) - 2)
    bias = graph.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(shape[1], np.float32)
    given = {"strides": strides, "pads": pads, "dilations": dilations}
    return Depthwise(graph.array(node.inputs[1])[keep], bias[keep], given)


def _rearranging(typing: Typing, node: Node, atom: Atom) -> Stage | None:
    """The stage of a pooling or flattening node. None if it is of another kind."""
    graph = typing.graph
    shape, out = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
    if node.domain or shape is None or out is None or len(shape) < 3 or out[:1] != shape[:1]:
        return None
    facts = facts_of(node.domain, node.op)
    if facts.moves is Moves.RESHAPED and len(out) == 2 and math.prod(out[1:]) == math.prod(shape[1:]):
        return Flatten()
    if algebra.resolve(typing.axes[node.inputs[0]][1]) is not atom:  # rows of features, not channels of places
        return None
    if any((node.inputs[0], axis) in graph.info.dynamic for axis in range(1, len(shape))):  # samples may differ in size
        return None
    spatial = shape[2:]
    if facts.pool is None or facts.pool.kind not in ("mean", "max"):
        return None
    if facts.pool.window is PoolWindow.ALL:
        return Pooling(facts.pool.kind, spatial, spatial)
    if facts.pool.window is PoolWindow.AXES:
        emptied = out[:2] == shape[:2] and math.prod(out[2:]) == 1 and len(out) in (2, len(shape))
        known = emptied and facts.pool.kind == "mean"
        return Pooling("mean", spatial, spatial, flat=len(out) == 2) if known else None
    attrs: Mapping[str, Any] = node.attrs
    window = tuple(attrs.get("kernel_shape", ()))
    plain = tuple(attrs.get("strides", ())) == window and not any(attrs.get("pads", ()))
    plain = (
        plain and attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and set(attrs.get("dilations", (1,))) == {1}
    )
    if not plain or any(n % k for n, k in zip(spatial, window, strict=True)) or len([n for n in node.outputs if n]) > 1:
        return None
    return Pooling(facts.pool.kind, window, spatial)
