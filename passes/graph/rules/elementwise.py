"""Elementwise ops: operands broadcast from the right."""

from __future__ import annotations

import numpy as np
import onnx

from passes.graph.op import Op, Scaling
from passes.graph.registry import rule
from passes.graph.rules.linear import place_broadcast
from passes.graph.terms import Term


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


@rule("Identity", "Dropout", "Neg")
def linear_unary(op: Op) -> None:
    """f(s x) = s f(x) for any s."""
    same_axes(op, outputs=2)
    op.scales(Scaling.LINEAR)


FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


@rule("Cast")
def cast(op: Op) -> None:
    """Linear where it ends in floating point; integers and booleans round or cut off what was scaled."""
    same_axes(op)
    if op.attr("to") in FLOATS:
        op.scales(Scaling.LINEAR)


@rule("Relu", "LeakyRelu", "Abs")
def homogeneous_unary(op: Op) -> None:
    """f(s x) = s f(x) for s >= 0."""
    same_axes(op)
    op.scales(Scaling.HOMOGENEOUS)


@rule(
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "Log", "Mish", "Not", "Reciprocal", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "BitwiseNot",
)  # fmt: skip
def opaque_unary(op: Op) -> None:
    """No scale passes."""
    same_axes(op)


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
    op.scales(Scaling.HOMOGENEOUS)


@rule("Add", "Sub", "Sum", "Mean")
def additive(op: Op) -> None:
    """Constants are offsets; data operands must carry one scale."""
    broadcast(op)
    op.scales(Scaling.LINEAR, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])


@rule("Mul")
def multiplicative(op: Op) -> None:
    """Scales of data operands multiply; constants are weights."""
    broadcast(op)
    op.scales(Scaling.PRODUCT, weights=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])


@rule("Div")
def quotient(op: Op) -> None:
    """Linear in the numerator where the denominator is constant."""
    broadcast(op)
    if op.is_constant(1):
        op.scales(Scaling.LINEAR, weights=[1])


@rule("Max", "Min")
def extremum(op: Op) -> None:
    """Homogeneous; a constant operand other than zero is an offset."""
    broadcast(op)
    op.scales(Scaling.HOMOGENEOUS, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])


@rule(
    "Pow", "Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
)  # fmt: skip
def opaque_binary(op: Op) -> None:
    """No scale passes."""
    broadcast(op)


@rule("Where")
def where(op: Op) -> None:
    """Y = X where the condition holds, else the other; the condition does not depend on a channel's scale."""
    broadcast(op)
    if op.is_constant(0):
        op.scales(Scaling.LINEAR, offsets=[k for k in (1, 2) if op.is_constant(k)])
