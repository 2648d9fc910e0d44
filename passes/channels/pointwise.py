"""Elementwise ops as NumPy functions, for following values of a channel that are known in advance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from passes.graph.model import Array, Graph, Node

Function = Callable[[Array], Array]

KEEP_VALUES = {
    "Identity", "Dropout", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "GlobalMaxPool",
    "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin", "Concat", "Split", "Slice", "Gather", "Expand",
}  # fmt: skip
"""Ops whose outputs are values of their inputs, or means of them, channel by channel."""


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


MONOTONE: dict[str, Function] = {
    "Relu": lambda x: np.maximum(x, 0.0),
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "Softplus": lambda x: np.logaddexp(0.0, x),
}
OTHER: dict[str, Function] = {
    "HardSwish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "Swish": lambda x: x * _sigmoid(x),
    "Neg": np.negative,
    "Abs": np.abs,
}


def monotone(graph: Graph, node: Node) -> Function | None:
    """The op as a non-decreasing function, if it is one of those known here."""
    if node.domain or node.op in MONOTONE:
        return None if node.domain else MONOTONE[node.op]
    alpha = float(node.attrs.get("alpha", {"LeakyRelu": 0.01, "Elu": 1.0, "HardSigmoid": 0.2}.get(node.op, 0.0)))
    if node.op == "LeakyRelu" and 0 <= alpha <= 1:
        return lambda x: np.maximum(x, alpha * x)
    if node.op == "Elu" and alpha >= 0:
        return lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))
    if node.op == "HardSigmoid" and alpha >= 0:
        beta = float(node.attrs.get("beta", 0.5))
        return lambda x: np.clip(alpha * x + beta, 0.0, 1.0)
    if node.op == "Clip":
        limits = clip_bounds(graph, node)
        return None if limits is None else lambda x: np.clip(x, *limits)
    return None


def pointwise(graph: Graph, node: Node) -> Function | None:
    """The op as a function of one value, if it is one of those known here."""
    return monotone(graph, node) or (None if node.domain else OTHER.get(node.op))


def clip_bounds(graph: Graph, node: Node) -> tuple[float, float] | None:
    """Bounds of a Clip, infinite where there is none; nothing if one is computed from the data."""
    limits: list[float] = []
    for k, name, none in ((1, "min", -np.inf), (2, "max", np.inf)):
        if k < len(node.inputs) and node.inputs[k]:
            value = graph.value(node.inputs[k])
            if value is None:
                return None
            limits.append(float(np.ravel(value)[0]))
        else:
            limits.append(float(node.attrs.get(name, none)))
    return limits[0], limits[1]
