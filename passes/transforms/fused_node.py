"""A node that onnxruntime's optimizer fused, and the standard nodes that take its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from passes.graph.nodes import fresh

Kind = tuple[int, int | None]
"""Element type and rank; None if the rank is unknown."""


class StaysFusedError(Exception):
    """No standard ops compute this form of a fused op, or too little is known to write them."""


class FusedNode:
    """A fused node, and the nodes and constants that take its place.

    ``kinds``: of the values in the model, as far as they are known. ``taken``: names in use, of values and nodes.
    """

    def __init__(self, node: onnx.NodeProto, opset: int, kinds: Mapping[str, Kind], taken: set[str]) -> None:
        self.kind, self.inputs, self.outputs = node.op_type, list(node.input), list(node.output)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._name, self._kinds, self._taken = node.name, kinds, taken

    def has(self, k: int) -> bool:
        """Whether input ``k`` is given."""
        return len(self.inputs) > k and bool(self.inputs[k])

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output. The first one has the name of the fused node."""
        output = fresh(f"{self.outputs[0]}.{kind}", self._taken)
        name = fresh(f"{self._name}.{kind}", self._taken) if self.nodes and self._name else self._name
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def give(self, k: int, result: str) -> None:
        """State that ``result``, which a node added here makes, is output ``k``."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [self.outputs[k] if name == result else name for name in names]

    def number(self, value: float) -> str:
        """A constant, of the element type of the inputs."""
        known = [self._kinds[name][0] for name in self.inputs if name in self._kinds]
        if not known:
            raise StaysFusedError("its type is unknown")
        name = fresh(f"{self.outputs[0]}.{value:.4g}", self._taken)
        dtype = helper.tensor_dtype_to_np_dtype(known[0])
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def swapped(self, source: str) -> str:
        """``source`` with its last two axes swapped."""
        rank = self._kinds.get(source, (0, None))[1]
        if rank is None:
            raise StaysFusedError(f"the rank of {source} is unknown")
        if rank < 2:
            return source
        return self.op("Transpose", source, perm=[*range(rank - 2), rank - 1, rank - 2])

    def activate(self, source: str, kind: str, numbers: Mapping[str, float]) -> str:
        """The activation ``kind`` of ``source``; ``numbers``: its attributes, as far as they are given."""
        if kind == "Clip" and self.opset >= 11:
            bounds = [self.number(numbers[name]) for name in ("min", "max") if name in numbers]
            return self.op(kind, source, *bounds)
        return self.op(kind, source, **numbers)
