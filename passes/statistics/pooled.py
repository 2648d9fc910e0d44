"""What a pooling averages: a reader behind it sees few places of channels of which the map before shows many."""

from __future__ import annotations

from passes.graph.model import Graph

FORWARD = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Ops that rearrange what was pooled."""
POOLS = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


def map_before(graph: Graph, tensor: str) -> str | None:
    """The tensor whose averages ``tensor`` holds; nothing where it holds none."""
    node = graph.producer.get(tensor)
    while node is not None and node.op in FORWARD and not node.domain:
        node = graph.producer.get(node.inputs[0])
    if node is None or node.domain or node.op not in POOLS or node.inputs[0] in graph.constants:
        return None
    return node.inputs[0]
