"""Rules and gradients of piecewise linear activation functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passes.axes.gradient_context import Backward
from passes.axes.op_facts import Activation, Function, OpFacts, Range
from passes.axes.op_facts import ScalarFunction as Scalar
from passes.axes.registry import facts, gradient, rule, slope
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import broadcast, same_axes
from passes.axes.rules.unary import POSITIVE, SMOOTH, always
from passes.graph.model import Graph, Node
from passes.interface.errors import Refusal

SWITCH = replace(SMOOTH, activation=Activation.SWITCH)
GATE = replace(SMOOTH, activation=Activation.GATE)


@rule("Relu", "LeakyRelu")
def homogeneous_activation(op: Op) -> None:
    """f(s x) = s f(x) for s >= 0."""
    same_axes(op)
    op.scales(Scaling.HOMOGENEOUS)


def _leaky_relu(graph: Graph, node: Node) -> Function | None:
    alpha = float(node.attrs.get("alpha", 0.01))
    return (lambda x: np.maximum(x, alpha * x)) if 0 <= alpha <= 1 else None


facts(
    "Relu",
    known=OpFacts(
        range=POSITIVE,
        function=always(lambda x: np.maximum(x, 0.0)),
        pointwise=True,
        activation=Activation.SWITCH,
    ),
)
facts("LeakyRelu", known=replace(SWITCH, function=Scalar(_leaky_relu, monotone=True)))


@rule("Shrink", "ThresholdedRelu")
def jumping_activation(op: Op) -> None:
    """No scale passes. Near a threshold, rounding decides."""
    same_axes(op)
    op.jumps()


facts("Shrink", known=OpFacts(decides=True))
facts("ThresholdedRelu", known=replace(SWITCH, decides=True))


@rule("Clip")
def clip(op: Op) -> None:
    """Y = min(max(X, low), high). Homogeneous only as a Relu, with low 0 and no high."""
    same_axes(op)
    low = op.value(1) if op.has(1) else op.attr("min")
    unbounded = not op.has(2) and op.attr("max") is None
    if unbounded and low is not None and not np.any(low):
        op.scales(Scaling.HOMOGENEOUS)


def _clip_bounds(graph: Graph, node: Node) -> Range | None:
    """Bounds of a Clip, infinite where absent. None if one is computed from the data."""
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


def _clip(graph: Graph, node: Node) -> Function | None:
    limits = _clip_bounds(graph, node)
    return None if limits is None else lambda x: np.clip(x, *limits)


facts("Clip", known=replace(SMOOTH, range=_clip_bounds, function=Scalar(_clip, monotone=True)))


@rule("PRelu")
def prelu(op: Op) -> None:
    """Y = X for X >= 0, slope X below. The slope broadcasts to X and must be equal where channels are merged."""
    broadcast(op)
    if op.is_constant(1):  # the product of a slope from the data and X would have both scales
        op.scales(Scaling.HOMOGENEOUS)


facts("PRelu", known=replace(SWITCH, broadcasts=True))


# -- gradients ---------------------------------------------------------------------------------------------------------
def above(back: Backward, source: str, bound: float) -> str:
    """1 where ``source`` > ``bound``, else 0. Where x and y serve, y is better: onnxruntime then computes the function
    together with the layer that makes x."""
    return back.real(back.op("Greater", source, back.number(bound)))


@slope("Relu")
def _relu_slope(back: Backward) -> str:
    return above(back, back.y(), 0)


@slope("LeakyRelu")
def _leaky_relu_slope(back: Backward) -> str:
    alpha = float(back.attr("alpha", 0.01))
    source = back.y() if alpha >= 0 else back.x()
    return back.plus(back.times(above(back, source, 0), 1 - alpha), alpha)


@slope("ThresholdedRelu")
def _thresholded_relu_slope(back: Backward) -> str:
    return above(back, back.x(), float(back.attr("alpha", 1.0)))


@slope("Shrink")
def _shrink_slope(back: Backward) -> str:
    """1 beyond the threshold on either side."""
    bound = back.number(float(back.attr("lambd", 0.5)))
    return back.real(back.op("Greater", back.op("Abs", back.x()), bound))


@gradient("Clip")
def _clip_back(back: Backward) -> None:
    """dX = dY where low < y < high."""
    if back.wants(1) or back.wants(2):
        raise Refusal("has no gradient with respect to its bounds")
    flags: list[str] = []
    for k, name, inside in ((1, "min", "Greater"), (2, "max", "Less")):
        if back.has(k):
            flags.append(back.op(inside, back.y(), back.x(k)))
        elif back.attr(name) is not None:
            flags.append(back.op(inside, back.y(), back.number(float(back.attr(name)))))
    if len(flags) == 2:
        flags = [back.op("And", *flags)]
    back.give(0, back.mul(back.gradient, *(back.real(flag) for flag in flags)))


@gradient("PRelu")
def _prelu_back(back: Backward) -> None:
    """Where x <= 0: dX = dY slope, dslope = dY x."""
    down = back.op("Sub", back.number(1), above(back, back.x(), 0))
    passed = back.op("Mul", back.gradient, down)
    if back.wants(0):
        rest = back.op("Sub", back.gradient, passed)
        back.give(0, back.op("Add", rest, back.op("Mul", passed, back.x(1))))
    if back.wants(1):
        back.give_broadcast(1, back.op("Mul", passed, back.x()))
