"""Removes zero initial states from recurrent layers, which start from zeros without them.

Before:  LSTM(x, W, R, B, "", h0, c0)   h0, c0 = ConstantOfShape, or such zeros behind layout ops
After:   LSTM(x, W, R, B)

Exporters size such states by the batch. They often use one tensor for several layers, which would tie the layers'
hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import onnx

from passes.axes.op_facts import Moves
from passes.axes.registry import facts_of
from passes.shapes.constants import STANDARD_DOMAINS
from passes.shapes.tuning import SHAPES

PASSING = {*Moves} - {Moves.JOINED, Moves.PADDED, Moves.QUANTISED}
"""Ops that give zeros where input 0 is zeros, and how."""


def drop_zero_states(graph: onnx.GraphProto, overridable: Set[str] = frozenset()) -> None:
    """Remove initial states that are certainly zero from the recurrent layers of ``graph``, in place.

    ``overridable``: initializers whose values callers may replace.
    """
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {t.name: t for t in graph.initializer if t.name not in overridable}
    changed = False
    for node in graph.node:
        states = facts_of(node.domain, node.op_type).states
        for k in states:
            if k < len(node.input) and node.input[k] and _is_zero(node.input[k], makers, constants):
                node.input[k] = ""
                changed = True
        while changed and states and node.input and not node.input[-1]:
            del node.input[-1]


def _is_zero(name: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]) -> bool:
    while name in makers:
        node = makers[name]
        if node.domain not in STANDARD_DOMAINS:
            return False
        moves = facts_of(node.domain, node.op_type).moves
        if moves is Moves.JOINED:
            return all(_is_zero(n, makers, constants) for n in node.input)
        if node.op_type == "ConstantOfShape":
            values = [onnx.numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"]
            return not any(np.any(v) for v in values)
        if moves not in PASSING:
            return False
        name = node.input[0]
    tensor = constants.get(name)
    if tensor is None or tensor.external_data or int(np.prod(tensor.dims)) > SHAPES.evaluated_elements * 16:
        return False
    return not np.any(onnx.numpy_helper.to_array(tensor))
