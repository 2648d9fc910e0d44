"""Finds the node from which on a model computes NaN or infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.shape_observer import exposing
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import loaded
from onnx_merge.runtime.tensor_info import BFLOAT16
from onnx_merge.tuning.checks import EQUIVALENCE

Array = NDArray[Any]


def first_not_finite(model: onnx.ModelProto, feeds: Mapping[str, Array], provider: ProviderChoice) -> str:
    """Return the label of the first node, in the order of computation, with an output that holds NaN or infinity.

    Empty if there is none, or if the model cannot be run with more outputs.
    """
    nodes = [(node, [name for name in node.output if name]) for node in model.graph.node]
    names = [name for _, outputs in nodes for name in outputs]
    found: set[str] = set()
    for start in range(0, len(names), EQUIVALENCE.tensors_at_once):
        some = names[start : start + EQUIVALENCE.tensors_at_once]
        try:
            session = loaded(exposing(model, some), provider)
            given = {o.name for o in session.outputs}
            values = session.run(feeds, [name for name in some if name in given])
        except OnnxMergeError:
            return ""
        found |= {name for name, value in values.items() if _overflows(value)}
        if found:
            break
    for node, outputs in nodes:
        if found.intersection(outputs):
            return f"{node.name or outputs[0]} ({node.op_type})"
    return ""


def _overflows(value: Array) -> bool:
    return (value.dtype.kind == "f" or value.dtype == BFLOAT16) and not bool(np.isfinite(value).all())
