"""Finds nodes whose output's sizes or axes callers can change, by overriding the default of an input."""

from __future__ import annotations

import onnx

from passes.axes.registry import facts_of
from passes.shapes.overridable_inputs import overridable


def overridden_sizes(model: onnx.ModelProto) -> dict[int, str]:
    """Nodes of the main graph whose output's sizes or axes callers can change: node index -> the tensor that they
    override."""
    decided = overridable(model)
    found: dict[int, str] = {}
    for index, node in enumerate(model.graph.node) if decided else ():
        places = facts_of(node.domain, node.op_type).sizing
        says = [node.input[k] for k in places if k < len(node.input) and node.input[k] in decided]
        if says:
            found[index] = says[0]
        if node.op_type not in ("Shape", "Size") and decided.intersection(node.input):
            decided.update(n for n in node.output if n)
    return found
