"""Outputs whose sizes depend on what a model is fed, not on the shapes alone: a number of detections, say."""

from __future__ import annotations

import onnx

from passes.axes.registry import facts_of


def value_sized(model: onnx.ModelProto) -> set[str]:
    """Tensors of the main graph whose sizes may depend on values of the inputs.

    Bodies of control flow and ops of other domains are not looked into: what they make of values may be of any size.
    """
    constant = {t.name for t in model.graph.initializer}
    computed = {v.name for v in model.graph.input} - constant
    """Tensors that depend on values of the inputs, which shapes do not."""
    sized: set[str] = set()
    for node in model.graph.node:
        read = _reads(node)
        outputs = [name for name in node.output if name]
        if node.op_type in ("Shape", "Size") and _standard(node):
            if sized & read:
                computed.update(outputs)
            continue
        facts = facts_of(node.domain, node.op_type)
        operands = {name for k, name in enumerate(node.input) if k in facts.sizing}
        opaque = not _standard(node) or len(read) > len(set(node.input)) or node.op_type.startswith("Sequence")
        counts = (facts.counts or opaque) and computed & read
        if computed & read:
            computed.update(outputs)
        if counts or computed & operands or sized & read:
            sized.update(outputs)
    return sized


def _standard(node: onnx.NodeProto) -> bool:
    bodies = any(a.HasField("g") or a.graphs for a in node.attribute)
    return node.domain in ("", "ai.onnx", "ai.onnx.ml") and not bodies


def _reads(node: onnx.NodeProto) -> set[str]:
    """Inputs, and what bodies take from outside."""
    read = set(node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            read |= {name for inner in body.node for name in _reads(inner)} | {v.name for v in body.output}
    return read
