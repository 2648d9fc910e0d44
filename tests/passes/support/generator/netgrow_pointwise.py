"""Growers of elementwise ops."""

from dataclasses import replace

import numpy as np
from netgrow_table import TO, grows

GUARDS = {
    "Acos": "Tanh", "Acosh": "Exp", "Asin": "Tanh", "Atanh": "Erf", "Cosh": "Tanh", "Exp": "Tanh", "Log": "Sigmoid",
    "Reciprocal": "Exp", "Sinh": "Tanh", "Sqrt": "Softplus", "Tan": "Tanh",
}  # fmt: skip
"""What keeps the numbers away from where an op is undefined or steep."""


def guarded(g, x, op):
    """``x`` where ``op`` takes any number, else something in its domain."""
    guard = GUARDS.get(op)
    if guard == "Exp":
        x = replace(x, name=g.add("Sigmoid", x))
    elif guard in ("Tanh", "Erf"):
        x = replace(x, name=g.add("Mul", x, g.scalar(0.3)))
    return replace(x, name=g.add(guard, x), degree=1) if guard else x


@grows("Relu", "LeakyRelu", "Identity", "Neg", "Dropout", "Abs", "Sigmoid", "Tanh", "Softplus", "HardSwish", often=6)
@grows(
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu",
    "HardSigmoid", "Log", "Mish", "Reciprocal", "Selu", "Sin", "Sinh", "Softsign", "Sqrt", "Swish", "Tan", often=4,
)  # fmt: skip
@grows("Ceil", "Floor", "Round", "Sign", "Shrink", "ThresholdedRelu", often=1, rough=True)
def unary(g, op):
    x = guarded(g, g.tensor(), op)
    g.like(g.add(op, x), x)


@grows("Clip", often=1.5)
def clip(g, op):
    x = g.tensor()
    bounds = g.pick([dict(min=0.0), dict(min=0.0, max=6.0), dict(max=0.5), dict(min=-0.5, max=0.5)])
    g.like(g.add(op, x, **bounds), x)


@grows("PRelu", often=1.5)
def prelu(g, op):
    x = g.tensor()
    g.like(g.add(op, x, g.along(x) if g.chance(2) else g.weight(1)), x)


@grows("Cast", often=1)
def cast(g, op):
    """To another type and back."""
    x = g.tensor()
    g.like(g.add(op, g.add(op, x, to=TO["float"]), to=TO[g.precision]), x)


@grows("CastLike", often=1)
def cast_like(g, op):
    """To the type of another tensor, which is the same."""
    x = g.tensor()
    g.like(g.add(op, x, g.tensor() if g.chance(2) else g.scalar(1.0)), x)


def other(g, x):
    """Something that broadcasts to ``x``: a constant, a tensor of the same shape, or one of the same features."""
    same = g.tensor(lambda t: t.shape == x.shape and t.last == x.last)
    if same and g.chance(2):
        return same
    pooled = g.tensor(lambda t: x.places and t.features == x.features and t.last == x.last and set(t.places) == {1})
    if pooled and len(pooled.shape) == len(x.shape) and g.chance(2):
        return pooled
    flat = g.tensor(lambda t: not t.places and t.features == x.features)
    if flat and x.places and g.chance(2):
        return replace(flat, name=g.add("Unsqueeze", flat, axes=[1] if x.last and len(x.places) == 1 else x.others))
    return constant(g, x)


def constant(g, x, kind="w"):
    """A constant on the features of ``x``, on other axes of it, or on none."""
    ones = [1] * len(x.shape)
    shapes = [[n if axis == x.axis else 1 for axis, n in enumerate(x.shape, 1)], ones[:1], [], ones]
    if x.places:
        shapes += [[1 if axis == x.axis else n for axis, n in enumerate(x.shape, 1)], list(x.shape)]
    shape = g.pick([*shapes[:1] * 3, *shapes[1:]])
    return g.weight(*([1] if len(shape) == len(x.shape) and g.chance(2) else []), *shape, kind=kind)


def degree(x, z):
    return max(x.degree, getattr(z, "degree", 0))


@grows("Add", often=6)
@grows("Sub", "Max", "Min", "Sum", "Mean", often=4)
def additive(g, op):
    """Two operands in any order, or three."""
    x = g.tensor()
    z = other(g, x)
    operands = [x, z] if g.chance(2) else [z, x]
    if op in ("Max", "Min", "Sum", "Mean") and g.chance(3):
        operands.append(constant(g, x))
    g.like(g.add(op, *operands), x, degree=degree(x, z))


@grows("Mul", often=4)
def product(g, op):
    x = g.tensor()
    z = other(g, x)
    if not isinstance(z, str):
        x, z = g.tame(x), g.tame(z)
    g.like(g.add(op, *([x, z] if g.chance(2) else [z, x])), x, degree=x.degree + getattr(z, "degree", 0))


@grows("Div", often=1.5)
def quotient(g, op):
    """By a constant, or by what is never near zero."""
    x = g.tensor()
    if g.chance(2):
        return g.like(g.add(op, x, constant(g, x, "v")), x)
    if g.chance(2):
        return g.like(g.add(op, x, guarded(g, replace(x, name=str(other(g, x))), "Reciprocal")), x)
    return g.like(g.add(op, constant(g, x), guarded(g, x, "Reciprocal")), x)


@grows("Pow", often=1)
def power(g, op):
    x = g.tame(g.tensor())
    if g.chance(2):
        return g.like(g.add(op, x, g.scalar(2.0)), x, degree=2 * x.degree)
    z = guarded(g, x, "Reciprocal")
    return g.like(g.add(op, z, constant(g, x, "v")), x, degree=1)


def merged(g, x, condition):
    """A floating-point tensor from a boolean one."""
    if g.chance(3):
        return g.like(g.add("Cast", condition, to=TO[g.precision]), x, degree=1)
    choices = [x, other(g, x)]
    return g.like(g.add("Where", condition, *(choices if g.chance(2) else choices[::-1])), x, degree=degree(*choices))


COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]


@grows(*COMPARISONS, often=1.5, rough=True)
def compared(g, op):
    x = g.tensor()
    merged(g, x, g.add(op, x, other(g, x)))


@grows("And", "Or", "Xor", "Not", "IsNaN", "IsInf", often=1.5, rough=True)
def logical(g, op):
    x = g.tensor()
    if op.startswith("Is"):
        return merged(g, x, g.add(op, x))
    parts = [g.add(g.pick(["Greater", "Less"]), x, other(g, x)) for _ in range(1 if op == "Not" else 2)]
    return merged(g, x, g.add(op, *parts))


@grows("Where", often=1.5, rough=True)
def where(g, op):
    """By a constant mask, or by a comparison."""
    x = g.tensor()
    if g.chance(2):
        mask = g.add("Greater", x, other(g, x))
    else:
        mask = g.array(np.arange(x.features).reshape([-1] + [1] * (0 if x.last else len(x.places))) % 3 > 0)
    choices = [x, other(g, x)]
    return g.like(g.add(op, mask, *(choices if g.chance(2) else choices[::-1])), x, degree=degree(*choices))


@grows("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift", "Mod", often=2, rough=True)
def integral(g, op):
    """On numbers that are made whole, and floating again behind it."""
    x = g.tensor()
    if op == "Mod" and g.chance(2):
        return g.like(g.add(op, x, constant(g, x, "v"), fmod=1), x)
    large = g.add("Mul", x, g.scalar(5.0))
    dtype, number = (np.uint32, 12) if op == "BitShift" else (np.int64, 7)
    whole = g.add("Cast", g.add("Abs", large) if op == "BitShift" else large, to=number)
    k = g.array(
        np.arange(1, x.features + 1, dtype=dtype).reshape([-1] + [1] * (0 if x.last else len(x.places))) % 5 + 1
    )
    inputs = [whole] if op == "BitwiseNot" else [whole, k]
    y = g.add(op, *inputs, **(dict(direction=g.pick(["LEFT", "RIGHT"])) if op == "BitShift" else {}))
    return g.like(g.add("Mul", g.add("Cast", y, to=TO[g.precision]), g.scalar(0.1)), x)
