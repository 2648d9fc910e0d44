"""Rules of elementwise ops, whose operands broadcast from the right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passes.axes.algebra import Term
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import Function, Joins, OpFacts, ScalarFunction
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.linear import place_broadcast
from passes.graph.model import Array, Graph, Node

BROADCAST = OpFacts(broadcasts=True)
ARITHMETIC = replace(BROADCAST, pointwise=True)


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


@rule("Add", "Sub", "Sum", "Mean")
def additive(op: Op) -> None:
    """Constants are offsets; data operands must carry one scale."""
    broadcast(op)
    op.scales(Scaling.LINEAR, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])
    op.makes(terms=range(len(op.node.inputs)))


facts("Add", known=replace(ARITHMETIC, joins=Joins.SUM, keeps_sign=True))
facts("Sum", known=replace(BROADCAST, joins=Joins.SUM, keeps_sign=True))
facts("Sub", known=replace(ARITHMETIC, joins=Joins.DIFFERENCE))
facts("Mean", known=replace(BROADCAST, joins=Joins.MEAN))


@rule("Mul")
def multiplicative(op: Op) -> None:
    """Scales of data operands multiply. Constants are weights."""
    broadcast(op)
    op.scales(Scaling.PRODUCT, weights=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])
    op.makes(factors=[0, 1])


facts("Mul", known=replace(ARITHMETIC, joins=Joins.PRODUCT, keeps_sign=True))


@rule("Div")
def quotient(op: Op) -> None:
    """Linear in the numerator. A constant numerator passes its scale on."""
    broadcast(op)
    op.makes(factors=[0])
    constant = op.is_constant(1)
    op.scales(Scaling.LINEAR, weights=[1] if constant else (), unscaled=() if constant else [1])


facts("Div", known=replace(ARITHMETIC, joins=Joins.QUOTIENT))


@rule("Max", "Min")
def extremum(op: Op) -> None:
    """Homogeneous; a constant operand other than zero is an offset."""
    broadcast(op)
    op.scales(Scaling.HOMOGENEOUS, offsets=[k for k in range(len(op.node.inputs)) if op.is_constant(k)])


facts("Max", known=replace(ARITHMETIC, joins=Joins.EXTREMUM, keeps_sign=True))
facts("Min", known=replace(ARITHMETIC, joins=Joins.EXTREMUM))


@rule("Pow")
def power(op: Op) -> None:
    """No scale passes."""
    broadcast(op)


def _to_a_power(graph: Graph, node: Node) -> Function | None:
    """x -> x^k of a Pow whose exponent k is a constant whole number, 0 or more. None for other exponents: with them
    negative bases or zero give no numbers."""
    exponent = graph.number(node.inputs[1])
    if exponent is None or not exponent.is_integer() or exponent < 0:
        return None
    return lambda x: np.asarray(x ** int(exponent))


facts("Pow", known=replace(ARITHMETIC, function=ScalarFunction(_to_a_power)))


@rule(
    "Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor",
    "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
)  # fmt: skip
def jumping_binary(op: Op) -> None:
    """No scale passes. Where the operands are almost equal, rounding decides."""
    broadcast(op)
    op.jumps()


facts("Mod", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", known=replace(BROADCAST, decides=True))
facts("And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", known=BROADCAST)


@rule("Where")
def where(op: Op) -> None:
    """Y = X where the condition holds, else the other. The condition does not depend on a channel's scale."""
    broadcast(op)
    op.makes(terms=[k for k in (1, 2) if not (op.is_constant(k) and _is_zero(op.value(k)))])
    if op.is_constant(0):
        op.scales(Scaling.LINEAR, offsets=[k for k in (1, 2) if op.is_constant(k)])


facts("Where", known=replace(BROADCAST, joins=Joins.CHOICE))


def _is_zero(value: Array | None) -> bool:
    return value is not None and not np.any(value)


@gradient("Add", "Sum")
def _sum_back(back: Backward) -> None:
    """dX = dY for every operand."""
    for k in back.asked:
        back.give_broadcast(k, back.gradient)


@gradient("Mean")
def _mean_back(back: Backward) -> None:
    """dX = dY / n for each of n operands."""
    for k in back.asked:
        back.give_broadcast(k, back.times(back.gradient, 1 / len(back.node.inputs)))


@gradient("Sub")
def _difference_back(back: Backward) -> None:
    """dA = dY, dB = -dY."""
    for k in back.asked:
        back.give_broadcast(k, back.op("Neg", back.gradient) if k else back.gradient)


@gradient("Mul")
def _product_back(back: Backward) -> None:
    """dA = dY B, dB = dY A."""
    for k in back.asked:
        back.give_broadcast(k, back.op("Mul", back.gradient, back.x(1 - k)))


@gradient("Div")
def _quotient_back(back: Backward) -> None:
    """dA = dY / B, dB = -dY Y / B."""
    share = back.op("Div", back.gradient, back.x(1))
    if back.wants(0):
        back.give_broadcast(0, share)
    if back.wants(1):
        back.give_broadcast(1, back.op("Neg", back.op("Mul", share, back.y())))


@gradient("Max", "Min")
def _extremum_back(back: Backward) -> None:
    """dY goes to the operand that is the largest or smallest. Operands that are equal there share it."""
    worse = "Less" if back.node.op == "Max" else "Greater"
    flags = {k: back.real(back.op("Not", back.op(worse, back.x(k), back.y()))) for k in back.asked}
    whole = back.gradient
    if len(flags) > 1:
        total = next(iter(flags.values()))
        for flag in list(flags.values())[1:]:
            total = back.op("Add", total, flag)
        whole = back.op("Div", whole, back.op("Max", total, back.number(1)))
    for k, flag in flags.items():
        back.give_broadcast(k, back.op("Mul", whole, flag))


@gradient("Pow")
def _power_back(back: Backward) -> None:
    """dA = dY B A^(B - 1), dB = dY Y log A, which is zero where A is."""
    if back.wants(0):
        exponent = back.value(1)
        if exponent is not None and exponent.size == 1:
            n = float(np.ravel(exponent)[0])
            power = back.op("Pow", back.x(), back.number(n - 1)) if n != 2 else back.x()
            slope = back.times(power, n)
        else:
            raised = back.real(back.x(1))
            slope = back.op("Mul", raised, back.op("Pow", back.x(), back.plus(raised, -1)))
        back.give_broadcast(0, back.op("Mul", back.gradient, slope))
    if back.wants(1):
        zero = back.op("Not", back.op("Greater", back.x(), back.number(0)))
        logarithm = back.op("Log", back.op("Add", back.x(), back.real(zero)))
        back.give_broadcast(1, back.mul(back.gradient, back.y(), logarithm))


@gradient("Mod")
def _remainder_back(back: Backward) -> None:
    """Y = A - B n with a whole number n: dA = dY, dB = -dY n."""
    if back.wants(0):
        back.give_broadcast(0, back.gradient)
    if back.wants(1):
        whole = back.op("Div", back.op("Sub", back.y(), back.x()), back.x(1))
        back.give_broadcast(1, back.op("Mul", back.gradient, whole))


@gradient("Where")
def _choice_back(back: Backward) -> None:
    """dY goes to the operand that the condition chose."""
    zero = back.number(0)
    if back.wants(1):
        back.give_broadcast(1, back.op("Where", back.x(), back.gradient, zero))
    if back.wants(2):
        back.give_broadcast(2, back.op("Where", back.x(), zero, back.gradient))


no_gradient(
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "BitShift", "BitwiseAnd",
    "BitwiseOr", "BitwiseXor", why="gives no real numbers",
)  # fmt: skip
