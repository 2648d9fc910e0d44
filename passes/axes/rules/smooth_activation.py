"""Rules and gradients of smooth activation functions: gates, and those that bend where Relu has a corner."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from passes.axes.gradient_context import Backward
from passes.axes.op_facts import Function
from passes.axes.op_facts import ScalarFunction as Scalar
from passes.axes.registry import facts, rule, slope
from passes.axes.rule_context import Op
from passes.axes.rules.activation import GATE, SWITCH, above
from passes.axes.rules.elementwise import same_axes
from passes.axes.rules.unary import POSITIVE, SMOOTH, always, erf
from passes.graph.model import Array, Graph, Node

SELU_ALPHA, SELU_GAMMA = 1.67326319218681884765625, 1.05070102214813232421875
"""Defaults of the ONNX op."""
GELU_CUBIC = 0.044715
"""Coefficient of x^3 in the approximation of Gelu by tanh."""


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


def _celu(graph: Graph, node: Node) -> Function | None:
    alpha = float(node.attrs.get("alpha", 1.0))
    return (lambda x: np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0) / alpha)) if alpha > 0 else None


def _selu(graph: Graph, node: Node) -> Function:
    alpha, gamma = float(node.attrs.get("alpha", SELU_ALPHA)), float(node.attrs.get("gamma", SELU_GAMMA))
    return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _gelu(graph: Graph, node: Node) -> Function:
    """Hendrycks & Gimpel 2016."""
    if node.attrs.get("approximate", "none") == "none":
        return lambda x: 0.5 * x * (1.0 + erf(math.sqrt(0.5) * x))
    return lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + GELU_CUBIC * x**3)))


facts("Sigmoid", known=replace(GATE, range=(0.0, 1.0), function=always(_sigmoid)))
facts("HardSigmoid", known=replace(GATE, range=(0.0, 1.0), function=Scalar(_hard_sigmoid, monotone=True)))
facts("Tanh", known=replace(GATE, range=(-1.0, 1.0), function=always(np.tanh)))
facts(
    "Softsign",
    known=replace(SMOOTH, range=(-1.0, 1.0), function=always(lambda x: np.sign(x) * (1 - 1 / (1 + np.abs(x))))),
)
facts("Softplus", known=replace(SMOOTH, range=POSITIVE, function=always(lambda x: np.logaddexp(0.0, x))))
facts("Elu", known=replace(SWITCH, function=Scalar(_elu, monotone=True)))
facts(
    "HardSwish",
    known=replace(SWITCH, function=always(lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0), monotone=False)),
)
facts("Swish", known=replace(SWITCH, function=Scalar(_swish)))
facts("Celu", known=replace(SWITCH, function=Scalar(_celu)))
facts("Gelu", known=replace(SWITCH, function=Scalar(_gelu)))
facts("Mish", known=replace(SWITCH, function=always(lambda x: x * np.tanh(np.logaddexp(0.0, x)), monotone=False)))
facts("Selu", known=replace(SWITCH, function=Scalar(_selu)))


# -- gradients ---------------------------------------------------------------------------------------------------------
def _sides(back: Backward, below: str, alpha: float) -> str:
    """1 where x > 0, else ``below``. y has the sign of x where ``alpha``, its factor below 0, is none below 0."""
    up = above(back, back.y() if alpha >= 0 else back.x(), 0)
    return back.op("Add", up, back.op("Mul", back.op("Sub", back.number(1), up), below))


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
    alpha = float(back.attr("alpha", SELU_ALPHA))
    gamma = float(back.attr("gamma", SELU_GAMMA))
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
    low, high = above(back, back.x(), -3), above(back, back.x(), 3)
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
    root, cubic = math.sqrt(2 / math.pi), GELU_CUBIC
    t = back.op("Tanh", back.times(back.mul(x, back.plus(back.times(square, cubic), 1)), root))
    inner = back.times(back.plus(back.times(square, 3 * cubic), 1), 0.5 * root)
    curve = back.mul(x, inner, back.op("Sub", back.number(1), back.mul(t, t)))
    return back.op("Add", back.times(back.plus(t, 1), 0.5), curve)
