"""Finds tensors whose sizes depend on input values and not on input shapes alone, such as a number of detections."""

from __future__ import annotations

import onnx

from passes.axes.registry import facts_of
from passes.graph.nodes import node_reads, subgraphs
from passes.shapes.constants import STANDARD_DOMAINS


def value_sized(model: onnx.ModelProto) -> set[str]:
    """Return the tensors of the main graph whose sizes may depend on input values.

    Control-flow bodies and ops of other domains are not analysed: whatever depends on values there may have any size.
    """
    constant = {t.name for t in model.graph.initializer}
    computed = {v.name for v in model.graph.input} - constant
    """Tensors that depend on input values. Shapes do not depend on them."""
    sized: set[str] = set()
    for node in model.graph.node:
        read = node_reads(node)
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
    return node.domain in (*STANDARD_DOMAINS, "ai.onnx.ml") and not subgraphs(node)
