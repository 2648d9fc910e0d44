"""Rules and gradients of functions that are applied to each value; `activation` has those of networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from passes.axes import algebra
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, Function, Moves, OpFacts
from passes.axes.op_facts import ScalarFunction as Scalar
from passes.axes.registry import facts, gradient, no_gradient, rule, slope, zero_gradient
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import same_axes
from passes.graph.model import Array
from passes.interface.errors import Refusal
from passes.shapes.constants import FLOATS

SMOOTH = OpFacts(pointwise=True)
POSITIVE = (0.0, np.inf)


def always(function: Function, monotone: bool = True) -> Scalar:
    """Facts of an op that applies ``function`` to each value, whatever its attributes are."""
    return Scalar(lambda graph, node: function, monotone)


def erf(x: Array) -> Array:
    """The error function of each value."""
    from scipy import special  # here: `inspect` should not wait for it

    return np.asarray(special.erf(x))


def _exponential(x: Array) -> Array:
    with np.errstate(over="ignore"):  # of a bound
        return np.asarray(np.exp(x))


@rule("Identity", "Neg")
def linear_unary(op: Op) -> None:
    """f(s x) = s f(x) for any s."""
    same_axes(op)
    op.scales(Scaling.LINEAR)


facts("Identity", known=OpFacts(moves=Moves.SAME, convex_hull=True, keeps_sign=True, pointwise=True))
facts("Neg", known=replace(SMOOTH, function=always(np.negative, monotone=False)))


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


facts("Dropout", known=OpFacts(moves=Moves.SAME, convex_hull=True, keeps_sign=True))


@rule("Cast")
def cast(op: Op) -> None:
    """Linear where the result is floating-point. Integers and booleans round or truncate a scaled value."""
    same_axes(op)
    if op.attr("to") in FLOATS:
        op.scales(Scaling.LINEAR)
    else:
        op.jumps()


@rule("CastLike")
def cast_like(op: Op) -> None:
    """A Cast to the type of the other input, whose axes do not matter."""
    same_axes(op)
    op.drop(algebra.product(op.put_all(1)))
    if op.gives_integers:
        op.jumps()
    else:
        op.scales(Scaling.LINEAR)


facts("Cast", "CastLike", known=OpFacts(moves=Moves.CONVERTED, keeps_sign=True, decides=True))


@rule("Abs")
def homogeneous_unary(op: Op) -> None:
    """f(s x) = s f(x) for s >= 0."""
    same_axes(op)
    op.scales(Scaling.HOMOGENEOUS)


facts("Abs", known=replace(SMOOTH, range=POSITIVE, function=always(np.abs, monotone=False)))


@rule(
    "Asinh", "Atan", "Cos", "Cosh", "Erf", "Exp", "Reciprocal", "Sin", "Sinh", "Sqrt",
)  # fmt: skip
def opaque_unary(op: Op) -> None:
    """No scale passes."""
    same_axes(op)


facts("Exp", known=replace(SMOOTH, range=POSITIVE, function=always(_exponential)))
facts("Erf", known=replace(SMOOTH, range=(-1.0, 1.0), function=always(erf)))
facts("Sqrt", known=OpFacts(range=POSITIVE, decides=True))
facts("Sin", "Cos", known=OpFacts(range=(-1.0, 1.0)))
facts("Asinh", "Atan", "Cosh", "Reciprocal", "Sinh", known=ABSENT)


@rule(
    "Acos", "Acosh", "Asin", "Atanh", "BitwiseNot", "Ceil", "Floor", "IsInf", "IsNaN", "Log", "Not", "Round", "Sign",
    "Tan",
)  # fmt: skip
def jumping_unary(op: Op) -> None:
    """No scale passes. Near a step, a pole or the end of the domain, rounding decides."""
    same_axes(op)
    op.jumps()


facts("Ceil", "Floor", "IsInf", "IsNaN", "Round", "Sign", known=OpFacts(decides=True))
facts("Acos", "Acosh", "Asin", "Atanh", "Log", known=OpFacts(decides=True))
facts("BitwiseNot", "Not", "Tan", known=ABSENT)


# -- gradients ---------------------------------------------------------------------------------------------------------
zero_gradient("Ceil", "Floor", "Round", "Sign")
no_gradient("BitwiseNot", "IsInf", "IsNaN", "Not", why="gives no real numbers")


@gradient("Identity", "Dropout")
def _pass_on(back: Backward) -> None:
    """dX = dY."""
    back.give(0, back.gradient)


@gradient("Neg")
def _neg_back(back: Backward) -> None:
    """dX = -dY."""
    back.give(0, back.op("Neg", back.gradient))


@gradient("Cast", "CastLike")
def _cast_back(back: Backward) -> None:
    """dX = dY, in the type of X."""
    back.give(0, back.write.cast(back.gradient, back.kind_of(0)))


@gradient("Reciprocal")
def _reciprocal_back(back: Backward) -> None:
    """dX = -dY y^2."""
    back.give(0, back.op("Neg", back.mul(back.gradient, back.y(), back.y())))


@slope("Abs")
def _abs_slope(back: Backward) -> str:
    return back.op("Sign", back.x())


@slope("Exp")
def _exp_slope(back: Backward) -> str:
    return back.y()


@slope("Log")
def _log_slope(back: Backward) -> str:
    return back.op("Reciprocal", back.x())


@slope("Sqrt")
def _sqrt_slope(back: Backward) -> str:
    """1 / (2 y)."""
    return back.op("Div", back.number(0.5), back.y())


@slope("Erf")
def _erf_slope(back: Backward) -> str:
    """2 / sqrt(pi) exp(-x^2)."""
    return back.times(back.op("Exp", back.op("Neg", back.mul(back.x(), back.x()))), 2 / math.sqrt(math.pi))


@slope("Sin")
def _sin_slope(back: Backward) -> str:
    return back.op("Cos", back.x())


@slope("Cos")
def _cos_slope(back: Backward) -> str:
    return back.op("Neg", back.op("Sin", back.x()))


@slope("Tan")
def _tan_slope(back: Backward) -> str:
    """1 + y^2."""
    return back.plus(back.mul(back.y(), back.y()), 1)


@slope("Sinh", "Cosh")
def _hyperbolic_slope(back: Backward) -> str:
    return back.op("Cosh" if back.node.op == "Sinh" else "Sinh", back.x())


@slope("Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh")
def _inverse_slope(back: Backward) -> str:
    """1 / sqrt(1 - x^2), its negative, 1 / (1 + x^2), 1 / sqrt(x^2 + 1), 1 / sqrt(x^2 - 1), 1 / (1 - x^2)."""
    op, square = back.node.op, back.mul(back.x(), back.x())
    if op in ("Asin", "Acos", "Atanh"):
        square = back.op("Neg", square)
    inner = back.plus(square, -1 if op == "Acosh" else 1)
    found = back.op("Reciprocal", inner if op in ("Atan", "Atanh") else back.op("Sqrt", inner))
    return back.op("Neg", found) if op == "Acos" else found
