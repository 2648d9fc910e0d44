"""Finds the multiply-adds of a node, and the inputs that hold its weights, from the facts of its op.

The multiply-adds are a sum of products of axes (`passes.axes.loops`), so they are known at any widths
(`passes.cost.footprint`). An op without loops counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from passes.axes.loops import Factor, LoopNest, Loops
from passes.axes.op_facts import OpFacts
from passes.axes.registry import facts_of
from passes.graph.model import Graph, Node
from passes.shapes.sizes import Size, at


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


@dataclass(frozen=True)
class InputBatch:
    """``count``: number of samples in the concrete shapes; ``size``: that of the axis, which may vary."""

    count: int
    size: int


def input_batches(graph: Graph) -> list[InputBatch]:
    """The dynamic first axis of the inputs, and those of other inputs where they are other sizes that no further axis
    of an input has, as the images beside the texts of a dual encoder."""
    shapes, sizes = graph.info.shapes, graph.info.sizes
    fed = [name for name in graph.inputs if name not in graph.overridable and sizes.get(name)]
    dynamic = [InputBatch(shapes[n][0], sizes[n][0]) for n in fed if (n, 0) in graph.info.dynamic]
    taken = [size for name in fed for size in sizes[name][1:]]
    found: list[InputBatch] = []
    for batch in dynamic:
        if not found or (isinstance(batch.size, Size) and batch.size not in taken):
            found.append(batch)
            taken.append(batch.size)
    return found


def samples_in_product(graph: Graph, product: Sequence[Factor], batches: Sequence[InputBatch]) -> int:
    """The number of samples whose multiply-adds the ``product`` counts together. It is one in a layer that reads no
    input, such as one that projects an embedding of positions."""
    return math.prod(batch.count for batch in batches if _grows_with(graph, product, batch.size))


def _grows_with(graph: Graph, product: Sequence[Factor], batch: int) -> bool:
    """Whether ``product`` counts as much for each sample of a ``batch``. True where sizes do not show it."""
    known = graph.info.sizes
    if not isinstance(batch, Size) or any(not isinstance(f, int) and f[0] not in known for f in product):
        return True
    sizes = [f if isinstance(f, int) else known[f[0]][f[1]] for f in product]
    varying = math.prod(n for n in sizes if isinstance(n, Size))
    fixed = math.prod(n for n in sizes if not isinstance(n, Size))
    clips = {n // math.gcd(n, at(varying, k)) for k, n in enumerate(batch.at)}  # N frames may be N / 8 clips of 8
    return len(clips) == 1 and fixed % clips.pop() == 0
