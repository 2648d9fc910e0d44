"""Estimates the memory that a model's activations take for samples of a given size.

Where sizes are dynamic, the concrete shapes of a `passes.graph.model.Graph` are small. Samples may be many times as
large. One sample therefore runs through a copy of the model that outputs only the shape of every tensor.
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
"""Bytes that each element is counted as."""
HEADS = {"Attention": "q_num_heads", "MultiHeadAttention": "num_heads"}
"""Fused attention ops -> the attribute with the number of heads of a query that has three axes."""


@dataclass(frozen=True)
class Activations:
    """Bytes of one sample.

    ``live``: peak over the nodes: the node's inputs and outputs, and all tensors that later nodes read; ``held``: the
    same without tensors that no later node reads; ``widest``: largest sum of the inputs and outputs of one node;
    ``given``: the model's inputs; ``outputs``: the model's outputs.
    """

    live: float
    held: float
    widest: float
    given: float
    outputs: float


def at_sizes_of(graph: Graph, feed: Mapping[str, Array], engine: Engine, most: float) -> Graph:
    """``graph`` with the shapes that its tensors have on ``feed``. For counting only: values computed from shapes are
    unchanged.

    Shapes are scaled from those of the graph, by the size of the feed, where the model does not run on the feed, or
    where the run would take more than ``most`` bytes by that estimate.
    """
    estimated = _scale_batch_axis(graph, feed)
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
    """Bytes of one sample at the concrete shapes of ``graph``."""
    nodes, shapes = _with_scores([(n.op, n.inputs, n.outputs, n.attrs) for n in graph.nodes], graph.info.shapes)
    return _activations(nodes, shapes, graph.constants, graph.inputs, graph.outputs, samples_held(graph))


def measured(model: onnx.ModelProto, feed: Mapping[str, Array], engine: Engine) -> Activations | None:
    """Bytes of one sample like ``feed`` in ``model``. None where the model does not run on it. Tensors inside local
    functions and control-flow bodies are not counted."""
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


def every_activation(graph: Graph) -> float:
    """Bytes of all activations of a sample together, as a backward pass keeps them. ``graph``: with the shapes of
    samples."""
    names = [n for node in graph.nodes for n in node.outputs if n and n not in graph.constants]
    return sum(WIDTH * math.prod(graph.shape(name) or (0,)) for name in names) / samples_held(graph)


def weight_bytes(graph: Graph) -> int:
    """Bytes of all constants."""
    return sum(t.ByteSize() for t in graph.initializers.values())


def weight_count(graph: Graph) -> float:
    """Number of values of all constants, by their bytes."""
    return weight_bytes(graph) / WIDTH


def _scale_batch_axis(graph: Graph, feed: Mapping[str, Array]) -> Graph:
    """``graph`` with the first axis of every computed tensor scaled by the largest growth of any input."""
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
"""Inputs and outputs of each node."""


def _with_scores(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]], shapes: Mapping[str, Shape]
) -> tuple[Nodes, dict[str, Shape]]:
    """Inputs and outputs of nodes, which are given with op types and attributes, and the shapes.

    A fused attention node holds the scores of each query for each key internally. They are added as an output that no
    node reads.
    """
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
    """For each node, bytes of the tensors alive while it runs, and of those that later nodes still read."""
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
