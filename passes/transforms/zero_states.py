"""First states that are zero are left out: a recurrent layer without them starts from zeros.

Before:  LSTM(x, W, R, B, "", h0, c0)   h0, c0 = ConstantOfShape, or what layout ops make of such zeros
After:   LSTM(x, W, R, B)

Exporters size such states by the batch, often one tensor for several layers, whose units would be tied by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import onnx

from passes.shapes.inference import SMALL

STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Inputs that hold first states."""
PASSING = {"Slice", "Split", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Transpose", "Tile", "Flatten", "Gather"}
PASSING |= {"Identity", "Cast"}
"""Ops that give zeros where input 0 is zeros."""
STANDARD = ("", "ai.onnx")


def drop_zero_states(graph: onnx.GraphProto, overridable: Set[str] = frozenset()) -> None:
    """Take first states that are zero for sure from the recurrent layers of ``graph``, in place; ``overridable``:
    initializers whose values callers may replace."""
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {t.name: t for t in graph.initializer if t.name not in overridable}
    changed = False
    for node in graph.node:
        for k in STATES.get(node.op_type, ()) if node.domain in STANDARD else ():
            if k < len(node.input) and node.input[k] and _is_zero(node.input[k], makers, constants):
                node.input[k] = ""
                changed = True
        while changed and node.op_type in STATES and node.input and not node.input[-1]:
            del node.input[-1]


def _is_zero(name: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]) -> bool:
    while name in makers:
        node = makers[name]
        if node.domain not in STANDARD:
            return False
        if node.op_type == "Concat":
            return all(_is_zero(n, makers, constants) for n in node.input)
        if node.op_type == "ConstantOfShape":
            values = [onnx.numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"]
            return not any(np.any(v) for v in values)
        if node.op_type not in PASSING:
            return False
        name = node.input[0]
    tensor = constants.get(name)
    if tensor is None or tensor.external_data or int(np.prod(tensor.dims)) > SMALL * 16:
        return False
    return not np.any(onnx.numpy_helper.to_array(tensor))
