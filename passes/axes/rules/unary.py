"""Rules of functions that are applied to each value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from passes.axes.op_facts import ABSENT, NUMERIC, Activation, Derivative, Function, Moves, NodeBuilder, OpFacts, Range
from passes.axes.op_facts import ScalarFunction as Scalar
from passes.axes.registry import facts, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import broadcast, same_axes
from passes.graph.kinds import FLOATS
from passes.graph.model import Array, Graph, Node
from passes.interface.errors import Refusal

SMOOTH = OpFacts(derivative=NUMERIC)
SWITCH = replace(SMOOTH, activation=Activation.SWITCH)
GATE = replace(SMOOTH, activation=Activation.GATE)
POSITIVE = (0.0, np.inf)


def _always(function: Function, monotone: bool = True) -> Scalar:
    """The same function for all attributes."""
    return Scalar(lambda graph, node: function, monotone)


@rule("Identity", "Neg")
def linear_unary(op: Op) -> None:
    """f(s x) = s f(x) for any s."""
    same_axes(op)
    op.scales(Scaling.LINEAR)


facts("Identity", known=OpFacts(moves=Moves.SAME, hull=True, keeps_sign=True, derivative=NUMERIC))
facts("Neg", known=replace(SMOOTH, function=_always(np.negative, monotone=False)))


@rule("Dropout")
def dropout(op: Op) -> None:
    """Y = X at inference. The mask is all ones, and has no scale."""
    mode = op.value(2) if op.has(2) else np.asarray(False)
    if mode is None or np.any(mode):
        raise Refusal("may drop elements at random (training_mode)")
    same_axes(op, outputs=2)
    mask = op.node.outputs[1] if len(op.node.outputs) > 1 else ""
    if not mask or not (op.graph.users[mask] or mask in op.graph.outputs):
        op.scales(Scaling.LINEAR)


facts("Dropout", known=OpFacts(moves=Moves.SAME, hull=True, keeps_sign=True))


@rule("Cast")
def cast(op: Op) -> None:
    """Linear where the result is floating-point. Integers and booleans round or truncate a scaled value."""
    same_axes(op)
    if op.attr("to") in FLOATS:
        op.scales(Scaling.LINEAR)
    else:
        op.jumps()


facts("Cast", known=OpFacts(moves=Moves.CONVERTED, keeps_sign=True, decides=True))


@rule("Relu", "LeakyRelu", "Abs")
def homogeneous_unary(op: Op) -> None:
    """f(s x) = s f(x) for s >= 0."""
    same_axes(op)
    op.scales(Scaling.HOMOGENEOUS)


def _step(build: NodeBuilder, x: str) -> str:
    """The derivative of Relu: 1 for x > 0, else 0."""
    return build.op("Cast", build.op("Greater", x, build.number(0)), to=onnx.TensorProto.FLOAT)


def _leaky_relu(graph: Graph, node: Node) -> Function | None:
    alpha = float(node.attrs.get("alpha", 0.01))
    return (lambda x: np.maximum(x, alpha * x)) if 0 <= alpha <= 1 else None


facts(
    "Relu",
    known=OpFacts(
        range=POSITIVE,
        function=_always(lambda x: np.maximum(x, 0.0)),
        derivative=Derivative(_step),
        activation=Activation.SWITCH,
    ),
)
facts("LeakyRelu", known=replace(SWITCH, function=Scalar(_leaky_relu, monotone=True)))
facts("Abs", known=replace(SMOOTH, range=POSITIVE, function=_always(np.abs, monotone=False)))


@rule(
    "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Mish",
    "Reciprocal", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
)  # fmt: skip
def opaque_unary(op: Op) -> None:
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


facts("Sigmoid", known=replace(GATE, range=(0.0, 1.0), function=_always(_sigmoid)))
facts("HardSigmoid", known=replace(GATE, range=(0.0, 1.0), function=Scalar(_hard_sigmoid, monotone=True)))
facts("Tanh", known=replace(GATE, range=(-1.0, 1.0), function=_always(np.tanh)))
facts("Softplus", known=replace(SMOOTH, range=POSITIVE, function=_always(lambda x: np.logaddexp(0.0, x))))
facts("Exp", known=replace(SMOOTH, range=POSITIVE))
facts("Erf", "Softsign", known=replace(SMOOTH, range=(-1.0, 1.0)))
facts("Sqrt", known=OpFacts(range=POSITIVE, decides=True))
facts("Sin", "Cos", known=OpFacts(range=(-1.0, 1.0)))
facts("Elu", known=replace(SWITCH, function=Scalar(_elu, monotone=True)))
facts(
    "HardSwish",
    known=replace(SWITCH, function=_always(lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0), monotone=False)),
)
facts("Swish", known=replace(SWITCH, function=Scalar(_swish)))
facts("Celu", "Gelu", "Mish", "Selu", known=SWITCH)
facts("Asinh", "Atan", "Cosh", "Reciprocal", "Sinh", known=ABSENT)


@rule(
    "Acos", "Acosh", "Asin", "Atanh", "BitwiseNot", "Ceil", "Floor", "IsInf", "IsNaN", "Log", "Not", "Round", "Shrink",
    "Sign", "Tan", "ThresholdedRelu",
)  # fmt: skip
def jumping_unary(op: Op) -> None:
    """No scale passes. Near a step, a pole or the end of the domain, rounding decides."""
    same_axes(op)
    op.jumps()


facts("Ceil", "Floor", "IsInf", "IsNaN", "Round", "Shrink", "Sign", known=OpFacts(decides=True))
facts("ThresholdedRelu", known=replace(SWITCH, decides=True))
facts("Acos", "Acosh", "Asin", "Atanh", "Log", known=OpFacts(decides=True))
facts("BitwiseNot", "Not", "Tan", known=ABSENT)


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
