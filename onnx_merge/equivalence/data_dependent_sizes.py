"""Finds tensors whose sizes depend on input values and not on input shapes alone, such as a number of detections."""

from __future__ import annotations

import onnx

from passes.axes.registry import facts_of


def value_sized(model: onnx.ModelProto) -> set[str]:
    """Return the tensors of the main graph whose sizes may depend on input values.

    Control-flow bodies and ops of other domains are not analysed: whatever depends on values there may have any size.
    """
    constant = {t.name for t in model.graph.initializer}
    computed = {v.name for v in model.graph.input} - constant
    """Tensors that depend on input values. Shapes do not depend on them."""
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
    """Return the node's inputs and the outer tensors that its control-flow bodies read."""
    read = set(node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            read |= {name for inner in body.node for name in _reads(inner)} | {v.name for v in body.output}
    return read
