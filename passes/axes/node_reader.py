"""Defines what rules read of a node: attributes, shapes and values."""

from __future__ import annotations

from typing import Any, ClassVar

from passes.graph.model import Array, Graph, Node
from passes.interface.errors import Refusal
from passes.shapes.inference import Shape


class NodeReader:
    """One node of a graph."""

    reason_prefix: ClassVar[str] = ""
    """Words before the reason where a shape is unknown."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute ``name`` as a Python value."""
        return self.node.attrs.get(name, default)

    def has(self, k: int) -> bool:
        """Whether input ``k`` is given."""
        return k < len(self.node.inputs) and self.node.inputs[k] != ""

    def shape(self, k: int = 0) -> Shape:
        """Shape of input ``k``. A dim that varies is a `Size`, which equals no fixed one."""
        return self._shape(self.node.inputs[k], f"input {k}")

    def out_shape(self, k: int = 0) -> Shape:
        """Shape of output ``k``."""
        return self._shape(self.node.outputs[k], f"output {k}")

    def _shape(self, name: str, what: str) -> Shape:
        shape = self.graph.info.sizes.get(name)
        if shape is None:
            raise Refusal(f"{self.reason_prefix}the shape of {what} is unknown")
        return shape

    def value(self, k: int) -> Array | None:
        """Value of input ``k`` where it is known and does not vary."""
        return self.graph.value(self.node.inputs[k]) if self.has(k) else None
