"""Where it shows what samples bring about inside a model: see `onnx_merge.evaluation.layer_activity`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from passes.axes.op_facts import Activation
from passes.axes.registry import facts_of

SUMS = {"Conv", "ConvTranspose", "Gemm", "BatchNormalization"}
"""A Clip behind one of them is a ReLU6; behind others it may be a part of a HardSwish, which is open nearly always."""


@dataclass(frozen=True, slots=True)
class ActivationUnit:
    """``tensor``: what is looked at; ``kind``: switch, gate or norm."""

    node: onnx.NodeProto
    tensor: str
    kind: str

    @property
    def name(self) -> str:
        """As messages have it."""
        return self.node.name or self.node.output[0]


def units(model: onnx.ModelProto) -> list[ActivationUnit]:
    """Activations before a layer with weights, and BatchNormalizations, in the order of the graph."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    inner: set[str] = set()  # tensors before a layer with weights
    for node in reversed(model.graph.node):
        if facts_of("", node.op_type).macs is not None or any(name in inner for name in node.output):
            inner.update(name for name in node.input if name)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    given = {value.name for value in model.graph.input}
    found: list[ActivationUnit] = []
    for node in model.graph.node:
        if not node.input or node.input[0] in given or node.domain not in ("", "ai.onnx", "com.microsoft"):
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
