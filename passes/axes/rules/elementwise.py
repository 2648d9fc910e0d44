"""Elementwise ops: operands broadcast from the right."""

from __future__ import annotations

import numpy as np

from passes.axes.algebra import Term
from passes.axes.registry import rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.linear import place_broadcast
from passes.graph.kinds import FLOATS
from passes.graph.model import Array
from passes.interface.errors import Refusal


def broadcast(op: Op) -> list[Term]:
    """Tie every input to output 0 by broadcasting; the output's letters."""
    out = [op.letter(n) for n in op.out_shape()]
    for k in range(len(op.node.inputs)):
        if op.has(k):
            place_broadcast(op, k, out)
    op.put_out_all(out)
    return out


def same_axes(op: Op, outputs: int = 1) -> list[Term]:
    """Tie input 0 to outputs of the same shape; other inputs are parameters."""
    letters = op.put_all(0)
    for k in range(outputs):
        if k < len(op.node.outputs) and op.node.outputs[k]:
            op.put_out_all(letters, k)
    return letters


@rule("Identity", "Neg")
def linear_unary(op: Op) -> None:
    """f(s x) = s f(x) for any s."""
    same_axes(op)
    op.scales(Scaling.LINEAR)


@rule("Dropout")
def dropout(op: Op) -> None:
    """Y = X at inference; the mask, all ones, scales with nothing."""
    mode = op.value(2) if op.has(2) else np.asarray(False)
    if mode is None or np.any(mode):
        raise Refusal("may drop elements at random (training_mode)")
    same_axes(op, outputs=2)
    mask = op.node.outputs[1] if len(op.node.outputs) > 1 else ""
    if not mask or not (op.graph.users[mask] or mask in op.graph.outputs):
        op.scales(Scaling.LINEAR)


@rule("Cast")
def cast(op: Op) -> None:
    """Linear where it ends in floating point; integers and booleans round or cut off what was scaled."""
    same_axes(op)
    if op.attr("to") in FLOATS:
        op.scales(Scaling.LINEAR)
    else:
        op.jumps()


@rule("Relu", "LeakyRelu", "Abs")
def homogeneous_unary(op: Op) -> None:
    """f(s x) = s f(x) for s >= 0."""
    same_axes(op)
    op.scales(Scaling.HOMOGENEOUS)


@rule(
    "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Mish",
    "Reciprocal", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
)  # fmt: skip
def opaque_unary(op: Op) -> None:
    """No scale passes."""
    same_axes(op)


@rule(
    "Acos", "Acosh", "Asin", "Atanh", "BitwiseNot", "Ceil", "Floor", "IsInf", "IsNaN", "Log", "Not", "Round", "Shrink",
    "Sign", "Tan", "ThresholdedRelu",
)  # fmt: skip
def jumping_unary(op: Op) -> None:
    """No scale passes, and next to a step, a pole or the end of the domain the last bit decides."""
    same_axes(op)
    op.jumps()


@rule("Clip")
def clip(op: Op) -> None:
    """Y = min(max(X, low), high); homogeneous only as a Relu, with low 0 and no high."""
    same_axes(op)
    low = op.value(1) if op.has(1) else op.attr("min")
    unbounded = not op.has(2) and op.attr("max") is None
    if unbounded and low is not None and float(np.asarray(low)) == 0.0:
        op.scales(Scaling.HOMOGENEOUS)


@rule("PRelu")
def prelu(op: Op) -> None:
    """Y = X for X >= 0, slope X below; the slope broadcasts to X and must be equal where channels are merged."""
    broadcast(op)
    if op.is_constant(1):  # the product of a slope from the data and X would have both scales
        op.scales(Scaling.HOMOGENEOUS)


@rule("Add", "Sub", "Sum", "Mean")
def additive(op: Op) -> None:
    """Constants are offsets; data operands must carry one scale."""
    broadcast(op)
    op.scales(Scaling.LINEAR, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])
    op.makes(terms=range(len(op.node.inputs)))


@rule("Mul")
def multiplicative(op: Op) -> None:
    """Scales of data operands multiply; constants are weights."""
    broadcast(op)
    op.scales(Scaling.PRODUCT, weights=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])
    op.makes(factors=[0, 1])


@rule("Div")
def quotient(op: Op) -> None:
    """Linear in the numerator where the denominator is constant; a constant numerator passes its scale on."""
    broadcast(op)
    op.makes(factors=[0])
    if op.is_constant(1):
        op.scales(Scaling.LINEAR, weights=[1])


@rule("Max", "Min")
def extremum(op: Op) -> None:
    """Homogeneous; a constant operand other than zero is an offset."""
    broadcast(op)
    op.scales(Scaling.HOMOGENEOUS, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])


@rule("Pow")
def power(op: Op) -> None:
    """No scale passes."""
    broadcast(op)


@rule(
    "Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
)  # fmt: skip
def jumping_binary(op: Op) -> None:
    """No scale passes, and where the operands are as good as equal the last bit decides."""
    broadcast(op)
    op.jumps()


@rule("Where")
def where(op: Op) -> None:
    """Y = X where the condition holds, else the other; the condition does not depend on a channel's scale."""
    broadcast(op)
    op.makes(terms=[k for k in (1, 2) if not (op.is_constant(k) and _is_zero(op.value(k)))])
    if op.is_constant(0):
        op.scales(Scaling.LINEAR, offsets=[k for k in (1, 2) if op.is_constant(k)])


def _is_zero(value: Array | None) -> bool:
    return value is not None and not np.any(value)
