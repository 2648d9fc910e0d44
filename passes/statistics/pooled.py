"""Finds the feature map before an average pooling: it has many more places per channel than the pooled tensor."""

from __future__ import annotations

from passes.axes.op_facts import Moves
from passes.axes.registry import facts_of
from passes.graph.model import Graph

REARRANGING = (Moves.SAME, Moves.RESHAPED)


def map_before(graph: Graph, tensor: str) -> str | None:
    """The feature map whose average pooling gives ``tensor``, reshapes aside. None if there is none."""
    node = graph.producer.get(tensor)
    while node is not None and facts_of(node.domain, node.op).moves in REARRANGING:
        node = graph.producer.get(node.inputs[0])
    pool = None if node is None else facts_of(node.domain, node.op).pool
    if node is None or pool is None or pool.kind != "mean" or node.inputs[0] in graph.constants:
        return None
    return node.inputs[0]
