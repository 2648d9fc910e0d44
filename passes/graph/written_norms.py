"""Finds norms over the last axis that exporters write in several nodes.

d = x - mean(x)  (LayerNorm)  or  d = x  (RMSNorm)
y = s * (d / sqrt(mean(d^2) + epsilon)) + b
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Graph, Node


@dataclass(frozen=True)
class WrittenNorm:
    """``nodes``: indices of its nodes; ``source``: x; ``output``: y; ``scale``, ``bias``: initializers s and b, "" for
    no b; ``centred``: whether the mean is subtracted; ``epsilon``: the node that adds it, and at which input."""

    nodes: frozenset[int]
    source: str
    output: str
    scale: str
    bias: str
    centred: bool
    epsilon: tuple[Node, int]


def written_norms(graph: Graph) -> Iterator[WrittenNorm]:
    """The norms of a graph."""
    found = (_of_squares(graph, node) for node in graph.nodes if node.op == "ReduceMean")
    yield from (norm for norm in found if norm is not None)


def takes_part(graph: Graph, mean: Node) -> bool:
    """Whether a ReduceMean is that of the squares of such a norm, or that of the values."""
    if _of_squares(graph, mean) is not None:
        return True
    minus = _next(graph, mean, "Sub")
    squares = [node for node, _ in graph.users[minus.outputs[0]] if _is_square(graph, node)] if minus else []
    means = [_next(graph, square, "ReduceMean") for square in squares]
    norms = [_of_squares(graph, found) for found in means if found is not None]
    return any(norm is not None and mean.index in norm.nodes for norm in norms)


def _of_squares(graph: Graph, mean: Node) -> WrittenNorm | None:
    """The norm whose squares the ReduceMean ``mean`` averages."""
    square = graph.producer.get(mean.inputs[0])
    if square is None or not _is_square(graph, square) or not _is_over_last_axis(graph, mean):
        return None
    if graph.only_user(square.outputs[0]) is None:
        return None
    values, nodes = square.inputs[0], [square, mean]
    centre = _centre(graph, values)
    source = values if centre is None else centre[0].inputs[0]
    nodes += centre or ()
    add = _next(graph, mean, "Add")
    root = _next(graph, add, "Sqrt")
    after = graph.only_user(root.outputs[0]) if root else None
    if add is None or root is None or after is None:
        return None
    at = 1 - [*add.inputs].index(mean.outputs[0])
    scaled: Node | None = after if after.op == "Div" and after.inputs[0] == values else None
    if after.op == "Reciprocal" or (after.op == "Div" and graph.number(after.inputs[0]) == 1.0):
        nodes.append(after)
        scaled = _next(graph, after, "Mul")
    if scaled is None or values not in scaled.inputs or not graph.is_number(add.inputs[at]):
        return None
    if centre is not None and {n.index for n, _ in graph.users[values]} != {square.index, scaled.index}:
        return None
    cast = _next(graph, scaled, "Cast")
    nodes += [add, root, scaled, *([cast] if cast else [])]
    return _affine(graph, cast or scaled, nodes, source, centre is not None, (add, at))


def _affine(
    graph: Graph, last: Node, nodes: list[Node], source: str, centred: bool, epsilon: tuple[Node, int]
) -> WrittenNorm | None:
    """The norm with the scale, and the bias, that follow the node ``last``."""
    times = _next(graph, last, "Mul")
    scale = _constant(graph, times, last.outputs[0]) if times else ""
    if times is None or not scale:
        return None
    nodes.append(times)
    plus = _next(graph, times, "Add") if centred else None
    bias = _constant(graph, plus, times.outputs[0]) if plus else ""
    end = times
    if plus is not None and bias:
        nodes.append(plus)
        end = plus
    found = frozenset(node.index for node in nodes)
    return WrittenNorm(found, source, end.outputs[0], scale, bias, centred, epsilon)


def _centre(graph: Graph, values: str) -> tuple[Node, Node] | None:
    """The nodes of ``values`` = x - mean(x)."""
    minus = graph.producer.get(values)
    mean = graph.producer.get(minus.inputs[1]) if minus is not None and minus.op == "Sub" else None
    if minus is None or mean is None or mean.op != "ReduceMean" or mean.inputs[0] != minus.inputs[0]:
        return None
    return (minus, mean) if _is_over_last_axis(graph, mean) and graph.only_user(mean.outputs[0]) else None


def _is_square(graph: Graph, node: Node) -> bool:
    if node.op == "Mul":
        return node.inputs[0] == node.inputs[1]
    return node.op == "Pow" and graph.number(node.inputs[1]) == 2.0


def _is_over_last_axis(graph: Graph, mean: Node) -> bool:
    axes = mean.attrs.get("axes")
    if axes is None and len(mean.inputs) > 1 and graph.knows(mean.inputs[1]):
        axes = np.ravel(graph.array(mean.inputs[1]))
    rank = len(graph.shape(mean.inputs[0]) or ())
    return (
        axes is not None and [int(a) % max(1, rank) for a in axes] == [rank - 1] and bool(mean.attrs.get("keepdims", 1))
    )


def _next(graph: Graph, node: Node | None, op: str) -> Node | None:
    """The node of type ``op`` that alone reads the output of ``node``."""
    found = None if node is None else graph.only_user(node.outputs[0])
    return found if found is not None and found.op == op else None


def _constant(graph: Graph, node: Node, data: str) -> str:
    """The initializer with which ``node`` combines ``data``; "" if it is none."""
    other = node.inputs[1 - [*node.inputs].index(data)]
    return other if other in graph.initializers else ""
