"""One node's outputs, by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator


def evaluate(
    node: onnx.NodeProto, opsets: Mapping[str, int], feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Outputs of ``node`` by name; none of them where the reference implementation has no such op or fails on it."""
    axes = next((a.ints for a in node.attribute if a.name == "axes"), None)
    if node.op_type == "Unsqueeze" and axes is not None:  # opset < 13, which the reference implementation rejects
        return {node.output[0]: np.expand_dims(feeds[node.input[0]], tuple(axes))}
    try:
        evaluator = ReferenceEvaluator(node, opsets=dict(opsets))
        with np.errstate(all="ignore"):
            results = evaluator.run(None, {name: feeds[name] for name in node.input if name})
    except (NotImplementedError, RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        return {}  # says nothing about the model: the value merely stays unknown
    outputs = zip(node.output, results, strict=False)
    return {name: np.asarray(v) for name, v in outputs if name and isinstance(v, np.ndarray | np.generic)}
