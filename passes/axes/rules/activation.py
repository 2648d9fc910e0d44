"""Rules and gradients of activation functions, which are applied to each value."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from passes.axes.gradient_context import Backward
from passes.axes.op_facts import Activation, Function, OpFacts, Range
from passes.axes.op_facts import ScalarFunction as Scalar
from passes.axes.registry import facts, gradient, rule, slope
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import broadcast, same_axes
from passes.axes.rules.unary import POSITIVE, SMOOTH, always
from passes.graph.model import Array, Graph, Node
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


@rule(
    "Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish",
    "Tanh",
)  # fmt: skip
def opaque_activation(op: Op) -> None:
    """No scale passes."""
    same_axes(op)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _elu(graph: Graph, node: Node) -> Function | None:
    alpha = float(node.attrs.get("alpha", 1.0))
    return (lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))) if alpha >= 0 else None


def _hard_sigmoid(graph: Graph, node: Node) -> Function | None:
    alpha, beta = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    return (lambda x: np.clip(alpha * x + beta, 0.0, 1.0)) if alpha >= 0 else None


def _swish(graph: Graph, node: Node) -> Function | None:
    alpha = float(node.attrs.get("alpha", 1.0))
    return lambda x: x * _sigmoid(alpha * x)


facts("Sigmoid", known=replace(GATE, range=(0.0, 1.0), function=always(_sigmoid)))
facts("HardSigmoid", known=replace(GATE, range=(0.0, 1.0), function=Scalar(_hard_sigmoid, monotone=True)))
facts("Tanh", known=replace(GATE, range=(-1.0, 1.0), function=always(np.tanh)))
facts("Softsign", known=replace(SMOOTH, range=(-1.0, 1.0)))
facts("Softplus", known=replace(SMOOTH, range=POSITIVE, function=always(lambda x: np.logaddexp(0.0, x))))
facts("Elu", known=replace(SWITCH, function=Scalar(_elu, monotone=True)))
facts(
    "HardSwish",
    known=replace(SWITCH, function=always(lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0), monotone=False)),
)
facts("Swish", known=replace(SWITCH, function=Scalar(_swish)))
facts("Celu", "Gelu", "Mish", "Selu", known=SWITCH)


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
    if unbounded and low is not None and float(np.asarray(low)) == 0.0:
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
def _above(back: Backward, source: str, bound: float) -> str:
    """1 where ``source`` > ``bound``, else 0. Where x and y serve, y is better: onnxruntime then computes the function
    together with the layer that makes x."""
    return back.real(back.op("Greater", source, back.number(bound)))


def _sides(back: Backward, below: str, alpha: float) -> str:
    """1 where x > 0, else ``below``. y has the sign of x where ``alpha``, its factor below 0, is none below 0."""
    up = _above(back, back.y() if alpha >= 0 else back.x(), 0)
    return back.op("Add", up, back.op("Mul", back.op("Sub", back.number(1), up), below))


@slope("Relu")
def _relu_slope(back: Backward) -> str:
    return _above(back, back.y(), 0)


@slope("LeakyRelu")
def _leaky_relu_slope(back: Backward) -> str:
    alpha = float(back.attr("alpha", 0.01))
    source = back.y() if alpha >= 0 else back.x()
    return back.plus(back.times(_above(back, source, 0), 1 - alpha), alpha)


@slope("ThresholdedRelu")
def _thresholded_relu_slope(back: Backward) -> str:
    return _above(back, back.x(), float(back.attr("alpha", 1.0)))


@slope("Shrink")
def _shrink_slope(back: Backward) -> str:
    """1 beyond the threshold on either side."""
    bound = back.number(float(back.attr("lambd", 0.5)))
    return back.real(back.op("Greater", back.op("Abs", back.x()), bound))


@slope("Elu")
def _elu_slope(back: Backward) -> str:
    """Below 0: alpha exp(x) = y + alpha."""
    alpha = float(back.attr("alpha", 1.0))
    return _sides(back, back.plus(back.y(), alpha), alpha)


@slope("Celu")
def _celu_slope(back: Backward) -> str:
    """Below 0: exp(x / alpha) = y / alpha + 1."""
    alpha = float(back.attr("alpha", 1.0))
    return _sides(back, back.plus(back.times(back.y(), 1 / alpha), 1), alpha)


@slope("Selu")
def _selu_slope(back: Backward) -> str:
    """gamma above 0; below: alpha gamma exp(x) = y + alpha gamma."""
    alpha = float(back.attr("alpha", 1.67326319217681884765625))
    gamma = float(back.attr("gamma", 1.05070102214813232421875))
    scaled = back.times(back.plus(back.y(), alpha * gamma), 1 / gamma)
    return back.times(_sides(back, scaled, alpha * gamma), gamma)


@slope("Sigmoid")
def _sigmoid_slope(back: Backward) -> str:
    """y (1 - y)."""
    return back.op("Mul", back.y(), back.op("Sub", back.number(1), back.y()))


@slope("Tanh")
def _tanh_slope(back: Backward) -> str:
    """1 - y^2."""
    return back.op("Sub", back.number(1), back.op("Mul", back.y(), back.y()))


@slope("HardSigmoid")
def _hard_sigmoid_slope(back: Backward) -> str:
    """alpha where 0 < y < 1."""
    above, below = back.op("Greater", back.y(), back.number(0)), back.op("Less", back.y(), back.number(1))
    return back.times(back.real(back.op("And", above, below)), float(back.attr("alpha", 0.2)))


@slope("HardSwish")
def _hard_swish_slope(back: Backward) -> str:
    """0 below -3, x / 3 + 1/2 up to 3, 1 above."""
    low, high = _above(back, back.x(), -3), _above(back, back.x(), 3)
    line = back.plus(back.times(back.x(), 1 / 3), 0.5)
    return back.op("Add", high, back.op("Mul", line, back.op("Sub", low, high)))


@slope("Softplus")
def _softplus_slope(back: Backward) -> str:
    return back.op("Sigmoid", back.x())


@slope("Softsign")
def _softsign_slope(back: Backward) -> str:
    """1 / (1 + |x|)^2 = (1 - |y|)^2."""
    rest = back.op("Sub", back.number(1), back.op("Abs", back.y()))
    return back.op("Mul", rest, rest)


@slope("Swish")
def _swish_slope(back: Backward) -> str:
    """s + alpha y (1 - s) with s = sigmoid(alpha x)."""
    alpha = float(back.attr("alpha", 1.0))
    gate = back.op("Sigmoid", back.times(back.x(), alpha))
    return back.op("Add", gate, back.mul(back.times(back.y(), alpha), back.op("Sub", back.number(1), gate)))


@slope("Mish")
def _mish_slope(back: Backward) -> str:
    """t + x sigmoid(x) (1 - t^2) with t = tanh(softplus(x)) (Misra 2019)."""
    x = back.x()
    t = back.op("Tanh", back.op("Softplus", x))
    return back.op("Add", t, back.mul(x, back.op("Sigmoid", x), back.op("Sub", back.number(1), back.mul(t, t))))


@slope("Gelu")
def _gelu_slope(back: Backward) -> str:
    """Phi(x) + x phi(x), or the derivative of its approximation by tanh (Hendrycks & Gimpel 2016)."""
    x = back.x()
    square = back.mul(x, x)
    if back.attr("approximate", "none") == "none":
        phi = back.times(back.op("Exp", back.times(square, -0.5)), 1 / math.sqrt(2 * math.pi))
        share = back.times(back.plus(back.op("Erf", back.times(x, math.sqrt(0.5))), 1), 0.5)
        return back.op("Add", share, back.mul(x, phi))
    root, cubic = math.sqrt(2 / math.pi), 0.044715
    t = back.op("Tanh", back.times(back.mul(x, back.plus(back.times(square, cubic), 1)), root))
    inner = back.times(back.plus(back.times(square, 3 * cubic), 1), 0.5 * root)
    curve = back.mul(x, inner, back.op("Sub", back.number(1), back.mul(t, t)))
    return back.op("Add", back.times(back.plus(t, 1), 0.5), curve)


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
    down = back.op("Sub", back.number(1), _above(back, back.x(), 0))
    passed = back.op("Mul", back.gradient, down)
    if back.wants(0):
        rest = back.op("Sub", back.gradient, passed)
        back.give(0, back.op("Add", rest, back.op("Mul", passed, back.x(1))))
    if back.wants(1):
        back.give_broadcast(1, back.op("Mul", passed, back.x()))
