"""The loops of a node: products of axes from which its multiply-adds follow at any widths.

In a loop nest (tensor, axis) denotes the size of that axis, and an integer denotes itself.
"""

from __future__ import annotations

from passes.graph.model import Graph, Node

Factor = tuple[str, int] | int
LoopNest = list[Factor]


class Loops:
    """Axes of a node's tensors. Methods raise KeyError where a shape is unknown."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph, self.node = graph, node

    def of(self, name: str) -> LoopNest:
        """The axes of tensor ``name``."""
        return [(name, axis) for axis in range(len(self._graph.info.shapes[name]))]

    def size(self, factor: tuple[str, int]) -> int:
        """Size of an axis."""
        return self._graph.info.shapes[factor[0]][factor[1]]

    def has(self, k: int) -> bool:
        """Whether input ``k`` is given."""
        return k < len(self.node.inputs) and self.node.inputs[k] != ""

    def input(self, k: int) -> LoopNest:
        """The axes of input ``k``."""
        return self.of(self.node.inputs[k])

    def output(self) -> LoopNest:
        """The axes of the first output."""
        return self.of(self.node.outputs[0])
