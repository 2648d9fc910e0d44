"""Rules and gradients of softmax and quantisation."""

from __future__ import annotations

from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, Moves, OpFacts
from passes.axes.registry import facts, gradient, no_gradient, rule, zero_gradient
from passes.axes.rule_context import Op
from passes.axes.rules.elementwise import same_axes
from passes.interface.errors import Refusal


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
        raise Refusal("quantises in blocks: merge first, then quantise")
    for k in (1, 2):
        if op.has(k) and op.shape(k) and op.shape(k) != (1,):
            op.put(k, 0, letters[op.attr("axis", 1) % len(letters)])


facts("QuantizeLinear", known=OpFacts(moves=Moves.QUANTISED, decides=True))
facts("DequantizeLinear", known=OpFacts(moves=Moves.QUANTISED))


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
