"""Rules and gradients of softmax and quantisation."""

from __future__ import annotations

import numpy as np

from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, Function, Moves, OpFacts, ScalarFunction
from passes.axes.registry import facts, gradient, no_gradient, rule, zero_gradient
from passes.axes.rule_context import Op
from passes.axes.rules.elementwise import same_axes
from passes.graph.model import Array, Graph, Node
from passes.interface.errors import Refusal

ZERO_POINTS = (np.int8, np.uint8, np.int16, np.uint16)
"""Types whose whole range QuantizeLinear uses."""


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(op: Op) -> None:
    """The axis it sums over is frozen; before opset 13 that is every axis from `axis` on."""
    letters = same_axes(op)
    legacy = op.graph.opset < 13
    axis = op.attr("axis", 1 if legacy else -1) % len(letters)
    for letter in letters[axis:] if legacy else [letters[axis]]:
        op.freeze(letter, "normalises over it")
    if op.node.op == "Hardmax":
        op.jumps()


facts("Softmax", known=OpFacts(range=(0.0, 1.0)))
facts("Hardmax", known=OpFacts(decides=True))
facts("LogSoftmax", known=ABSENT)


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(op: Op) -> None:
    """X, scale, zero point -> Y. A per-channel scale is on `axis`. A scale of the channel would change the grid."""
    letters = same_axes(op)
    if op.attr("block_size", 0):
        raise Refusal("quantises in blocks: compress first, then quantise")
    for k in (1, 2):
        if op.has(k) and op.shape(k) and op.shape(k) != (1,):
            op.put(k, 0, letters[op.attr("axis", 1) % len(letters)])


def _parameters(graph: Graph, node: Node) -> tuple[Array, Array] | None:
    """Scale and zero point, both (), where there is one of each for all values."""
    names = node.inputs[1:]
    if not all(graph.is_number(name) for name in names if name):
        return None
    scale = graph.array(names[0]).reshape(())
    return scale, graph.array(names[1]).reshape(()) if any(names[1:]) else np.zeros((), np.uint8)


def _quantise(graph: Graph, node: Node) -> Function | None:
    """round(x / scale) + zero point, in the range of its type."""
    found = _parameters(graph, node)
    if (
        found is None
        or found[0].dtype != np.float32
        or found[1].dtype not in ZERO_POINTS
        or "output_dtype" in node.attrs
    ):
        return None
    scale, zero = found
    ends = np.iinfo(zero.dtype)
    return lambda x: np.clip(np.rint(x.astype(np.float32) / scale) + float(zero), ends.min, ends.max)


def _dequantise(graph: Graph, node: Node) -> Function | None:
    """(q - zero point) scale."""
    found = _parameters(graph, node)
    return None if found is None else lambda q: (q - float(found[1])) * float(found[0])


facts("QuantizeLinear", known=OpFacts(moves=Moves.QUANTISED, decides=True, function=ScalarFunction(_quantise)))
facts("DequantizeLinear", known=OpFacts(moves=Moves.QUANTISED, function=ScalarFunction(_dequantise)))


def _softmax_axes(back: Backward) -> list[int]:
    """The axes that it sums over: one, or before opset 13 all from ``axis`` on."""
    rank, legacy = back.rank(), back.graph.opset < 13
    axis = int(back.attr("axis", 1 if legacy else -1)) % rank
    return list(range(axis, rank)) if legacy else [axis]


@gradient("Softmax")
def _softmax_back(back: Backward) -> None:
    """dX = y (dY - sum(dY y))."""
    inner = back.op("Mul", back.gradient, back.y())
    total = back.write.sum(inner, _softmax_axes(back), keepdims=True)
    back.give(0, back.op("Sub", inner, back.op("Mul", back.y(), total)))


@gradient("LogSoftmax")
def _log_softmax_back(back: Backward) -> None:
    """dX = dY - exp(y) sum(dY)."""
    total = back.write.sum(back.gradient, _softmax_axes(back), keepdims=True)
    back.give(0, back.op("Sub", back.gradient, back.op("Mul", back.op("Exp", back.y()), total)))


zero_gradient("Hardmax")
no_gradient("QuantizeLinear", why="gives no real numbers")
no_gradient("DequantizeLinear", why="reads no real numbers but its scales")
