"""What a model's tensors take in memory, on samples at their own sizes.

Where sizes are dynamic, the concrete shapes of a `passes.graph.model.Graph` are small ones; samples may be many times
as large. So one sample goes through a copy of the model that gives the shape of every tensor and nothing else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from passes.cost.cost import samples_held
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.shapes.inference import Shape
from passes.shapes.shape_probe import SHAPELESS, shape_name, with_shape_outputs

WIDTH = 4
"""Bytes that an element is taken for."""
HEADS = {"Attention": "q_num_heads", "MultiHeadAttention": "num_heads"}
"""Ops that are attention in one node -> the attribute that tells how many heads queries of three axes have."""


@dataclass(frozen=True)
class Activations:
    """Bytes of one sample. ``live``: most that the tensors take that a node reads and makes, with those that later ones
    read; ``held``: the same without what no later one reads; ``widest``: most that a node reads and makes; ``given``:
    the inputs; ``outputs``: what the model gives."""

    live: float
    held: float
    widest: float
    given: float
    outputs: float


def at_sizes_of(graph: Graph, feed: Mapping[str, Array], engine: Engine, most: float) -> Graph:
    """``graph`` with shapes as they are on ``feed``, for counting only: values computed from shapes stay
    those of the graph.

    Where the model does not run so, or would take more than ``most`` bytes by the shapes that are known, they are those
    of the graph, as many times larger as the feed is.
    """
    estimated = _scaled(graph, feed)
    if activations(estimated).live * samples_held(estimated) > most:
        return estimated
    names = [n for node in graph.nodes if node.op not in SHAPELESS for n in node.outputs if n]
    names = [n for n in names if n not in graph.constants]
    try:
        found = engine(with_shape_outputs(graph.model, names))(feed)
    except RunError:
        return estimated
    shapes = {name: tuple(int(d) for d in found[shape_name(name)]) for name in names if shape_name(name) in found}
    return _with_shapes(graph, {**estimated.info.shapes, **shapes, **_shapes(feed)})


def activations(graph: Graph) -> Activations:
    """What a sample takes at the concrete shapes of ``graph``."""
    nodes, shapes = _with_scores([(n.op, n.inputs, n.outputs, n.attrs) for n in graph.nodes], graph.info.shapes)
    return _activations(nodes, shapes, graph.constants, graph.inputs, graph.outputs, samples_held(graph))


def measured(model: onnx.ModelProto, feed: Mapping[str, Array], engine: Engine) -> Activations | None:
    """What a sample like that of ``feed`` takes in ``model``; nothing where it does not run. What stands inside local
    functions and the bodies of control flow is not seen."""
    constants = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        if all(not n or n in constants for n in node.input):
            constants.update(node.output)
    nodes = [node for node in model.graph.node if node.op_type not in SHAPELESS]
    names = [n for node in nodes for n in node.output if n and n not in constants]
    try:
        found = engine(with_shape_outputs(model, names))(feed)
    except RunError:
        return None
    shapes = {**{n: tuple(int(d) for d in found[shape_name(n)]) for n in names}, **_shapes(feed)}
    ends = [v.name for v in model.graph.output]
    of_each = [(n.op_type, n.input, n.output, {a.name: a.i for a in n.attribute}) for n in model.graph.node]
    pairs, shapes = _with_scores(of_each, shapes)
    return _activations(pairs, shapes, constants, list(feed), ends, 1)


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants."""
    return sum(t.ByteSize() for t in graph.initializers.values())


def _scaled(graph: Graph, feed: Mapping[str, Array]) -> Graph:
    """With every tensor as many times larger as the input that grows most, along its first axis."""
    known = graph.info.shapes
    pairs = [(a.size, math.prod(known[n])) for n, a in feed.items() if n in known]
    factor = max((size / max(1, stand_in) for size, stand_in in pairs), default=1.0)
    made = {n for node in graph.nodes for n in node.outputs if n not in graph.constants}
    shapes = {n: (math.ceil(s[0] * factor), *s[1:]) if s and n in made else s for n, s in known.items()}
    return _with_shapes(graph, {**shapes, **_shapes(feed)})


def _with_shapes(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    other = copy.copy(graph)
    other.info = replace(graph.info, shapes=dict(shapes))
    return other


def _shapes(feed: Mapping[str, Array]) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in feed.items()}


Nodes = Sequence[tuple[Sequence[str], Sequence[str]]]
"""Inputs and outputs of each."""


def _with_scores(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]], shapes: Mapping[str, Shape]
) -> tuple[Nodes, dict[str, Shape]]:
    """Inputs and outputs of nodes, given with their op types and attributes; the scores of each query for each key,
    which an attention in one node holds within itself, are an output that nobody reads."""
    found, inner = [], {}
    for index, (op, inputs, outputs, attributes) in enumerate(nodes):
        query, key = (shapes.get(name, ()) for name in (*inputs[:2], "", "")[:2])
        heads = query[1] if len(query) == 4 else attributes.get(HEADS.get(op, ""), 1)
        if op in HEADS and min(len(query), len(key)) > 2:
            inner[f"\0{index}"] = (query[0], heads, query[-2], key[-2])
            outputs = [*outputs, f"\0{index}"]
        found.append((inputs, outputs))
    return found, {**shapes, **inner}


def _activations(
    nodes: Nodes,
    shapes: Mapping[str, Shape],
    constants: Collection[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    held: int,
) -> Activations:
    sizes = {n: WIDTH * math.prod(shape) for n, shape in shapes.items() if n not in constants}
    widest = max((sum(sizes.get(n, 0) for n in {*read, *made}) for read, made in nodes), default=0)
    given, results = (sum(sizes.get(n, 0) for n in names) for names in (inputs, outputs))
    during, after = (max(found, default=0) for found in zip(*_live(nodes, sizes), strict=True)) if nodes else (0, 0)
    return Activations(during / held, after / held, widest / held, given / held, results / held)


def _live(nodes: Nodes, sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Bytes of the tensors that a node or a later one reads or makes; without what no later one reads."""
    last = {name: index for index, (read, _) in enumerate(nodes) for name in read}
    ends: dict[int, int] = {}
    now = 0
    for index, (_, made) in enumerate(nodes):
        for name in made:
            now += sizes.get(name, 0)
            end = last.get(name, index)
            ends[end] = ends.get(end, 0) + sizes.get(name, 0)
        during = now
        now -= ends.pop(index, 0)
        yield during, now
