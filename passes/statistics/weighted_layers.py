"""Finds every layer whose weights multiply its data: those that can be solved for, and convolutions that cannot."""

from __future__ import annotations

from passes.axes.inference import Typing
from passes.graph.model import Graph, Node
from passes.statistics.linear_layers import LinearLayer, solvable_layers


def weighted_layers(typing: Typing) -> list[LinearLayer]:
    """Solvable layers, depthwise convolutions, and those that pad automatically, in graph order."""
    found = solvable_layers(typing)
    for node in typing.graph.nodes:
        if node.index not in found and node.op == "Conv" and _has_own_weights(typing.graph, node):
            found[node.index] = LinearLayer(node, node.inputs[1], (node, 2), node.outputs[0])
    return [found[index] for index in sorted(found)]


def _has_own_weights(graph: Graph, node: Node) -> bool:
    """Whether the weights and the bias are constants, and the weights are read here alone."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
    if weight not in graph.initializers or len(graph.users[weight]) > 1 or weight in graph.captured:
        return False
    if node.inputs[0] in graph.constants or graph.shape(node.inputs[0]) is None or (bias and not graph.knows(bias)):
        return False
    return graph.array(weight).dtype.kind == "f"
