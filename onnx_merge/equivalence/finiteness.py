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


def first_not_finite(
    original: onnx.ModelProto, result: onnx.ModelProto, feeds: Mapping[str, Array], provider: ProviderChoice
) -> str:
    """Return the label of the first node of ``result``, in the order of computation, with an output that holds NaN or
    infinity where that of ``original`` does not.

    Empty if there is none, or if the models cannot be run with more outputs.
    """
    nodes = [(node, [name for name in node.output if name]) for node in result.graph.node]
    names = [name for _, outputs in nodes for name in outputs]
    known = {name for node in original.graph.node for name in node.output}
    found: set[str] = set()
    for start in range(0, len(names), EQUIVALENCE.tensors_at_once):
        some = names[start : start + EQUIVALENCE.tensors_at_once]
        try:
            found = _not_finite(result, some, feeds, provider)
            found -= _not_finite(original, sorted(found & known), feeds, provider)
        except OnnxMergeError:
            return ""
        if found:
            break
    for node, outputs in nodes:
        if found.intersection(outputs):
            return f"{node.name or outputs[0]} ({node.op_type})"
    return ""


def _not_finite(
    model: onnx.ModelProto, names: list[str], feeds: Mapping[str, Array], provider: ProviderChoice
) -> set[str]:
    """The names among ``names`` whose tensors hold NaN or infinity on ``feeds``."""
    if not names:
        return set()
    session = loaded(exposing(model, names), provider)
    given = {o.name for o in session.outputs}
    values = session.run(feeds, [name for name in names if name in given])
    return {name for name, value in values.items() if _overflows(value)}


def _overflows(value: Array) -> bool:
    return (value.dtype.kind == "f" or value.dtype == BFLOAT16) and not bool(np.isfinite(value).all())
