"""Selects the tensors of a model whose activity is examined: see `onnx_merge.evaluation.layer_activity`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from passes.axes.op_facts import Activation
from passes.axes.registry import facts_of
from passes.graph.nodes import readers_of
from passes.shapes.constants import STANDARD_DOMAINS

SUMS = {"Conv", "ConvTranspose", "Gemm", "BatchNormalization"}
"""Ops after which a Clip is a ReLU6. After others it may be part of a HardSwish, which is nearly always open."""


@dataclass(frozen=True, slots=True)
class ActivationUnit:
    """``tensor``: the tensor to examine. ``kind``: switch, gate or norm."""

    node: onnx.NodeProto
    tensor: str
    kind: str

    @property
    def name(self) -> str:
        """The unit's name in messages."""
        return self.node.name or self.node.output[0]


def units(model: onnx.ModelProto) -> list[ActivationUnit]:
    """Return the activations before a layer with weights, and the BatchNormalizations, in graph order."""
    readers = readers_of(model.graph.node)
    inner: set[str] = set()  # tensors from which a layer with weights can be reached
    for node in reversed(model.graph.node):
        if facts_of("", node.op_type).macs is not None or any(name in inner for name in node.output):
            inner.update(name for name in node.input if name)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.input}
    found: list[ActivationUnit] = []
    for node in model.graph.node:
        if not node.input or node.input[0] in given or node.domain not in (*STANDARD_DOMAINS, "com.microsoft"):
            continue
        source, output = node.input[0], node.output[0]
        activation = facts_of("", node.op_type).activation
        if node.op_type == "BatchNormalization" and len(node.input) == 5:
            found.append(ActivationUnit(node, source, "norm"))
        elif output not in inner:
            continue
        elif activation is Activation.SWITCH or (node.op_type == "Clip" and makers.get(source) in SUMS):
            found.append(ActivationUnit(node, source, "switch"))
        elif activation is Activation.GATE:
            itself = any(r.op_type == "Mul" and source in r.input for r in readers.get(output, ()))
            found.append(ActivationUnit(node, source, "switch") if itself else ActivationUnit(node, output, "gate"))
    return found
