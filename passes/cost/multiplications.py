"""Finds the multiply-adds of a node, and the inputs that hold its weights, from the facts of its op.

The multiply-adds are a sum of products of axes (`passes.axes.loops`), so they are known at any widths
(`passes.cost.footprint`). An op without loops counts as zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from passes.axes.loops import Factor, LoopNest, Loops
from passes.axes.op_facts import OpFacts
from passes.axes.registry import facts_of
from passes.graph.model import Graph, Node


def multiplying(node: Node) -> OpFacts | None:
    """The facts of the op of ``node``, if the op multiplies."""
    facts = facts_of(node.domain, node.op)
    return facts if facts.macs is not None else None


def mac_products(graph: Graph, node: Node) -> list[LoopNest]:
    """Loops of the node. The sum of their sizes' products is its multiply-adds. Empty if the op counts as zero or a
    shape is unknown."""
    count = facts_of(node.domain, node.op).macs
    if count is None:
        return []
    try:
        return count(Loops(graph, node))
    except (KeyError, IndexError, ValueError):  # a shape is unknown, or not what the op's definition says
        return []


def weight_inputs(node: Node) -> Iterator[str]:
    """Names of the inputs that hold the weights and biases of a node that multiplies, where they are constant."""
    op = multiplying(node)
    if op is not None:
        yield from (name for k, name in enumerate(node.inputs) if name and (k in op.weights or k in op.biases))


def factor_sizes(graph: Graph, product: Sequence[Factor]) -> list[int]:
    """The concrete sizes of a product's factors."""
    return [f if isinstance(f, int) else graph.info.shapes[f[0]][f[1]] for f in product]
