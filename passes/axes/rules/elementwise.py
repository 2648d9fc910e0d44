"""Rules of elementwise ops, whose operands broadcast from the right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passes.axes.algebra import Term
from passes.axes.op_facts import NUMERIC, Joins, OpFacts
from passes.axes.registry import facts, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.linear import place_broadcast
from passes.graph.model import Array

BROADCAST = OpFacts(broadcasts=True)
ARITHMETIC = replace(BROADCAST, derivative=NUMERIC)


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
    """Linear in the numerator where the denominator is constant. A constant numerator passes its scale on."""
    broadcast(op)
    op.makes(factors=[0])
    if op.is_constant(1):
        op.scales(Scaling.LINEAR, weights=[1])


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


facts("Pow", known=ARITHMETIC)


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
