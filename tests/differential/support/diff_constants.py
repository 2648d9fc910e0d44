"""Growers of channels that constants make, and of constants that are computed from constants."""

import numpy as np
from diff_growth import wide
from netgrow_kinds import convolution, flat, image, linear
from netgrow_table import DTYPES, TO


def planted(g, n, whole=False):
    """``n`` constants some of which are multiples of others, equal, or zero."""
    values = g.pick([np.arange(n), np.arange(1, n + 1), np.arange(n) // 2, 2.0 ** (np.arange(n) % 4), -np.arange(n)])
    values = values.astype(np.int64) if whole else values * g.pick([1.0, 0.5, 0.25])
    return values


def along(g, x, values):
    """``values`` as a constant along the features of ``x``."""
    return g.array(values.reshape([-1] + [1] * (0 if x.last else len(x.places))))


def one(g, x):
    """``x`` with a single feature."""
    if x.last or not x.places:
        return g.add("MatMul", x, g.weight(x.features, 1))
    return convolution(g, x, 1)


OPS = ["Pow", "Mul", "Add", "Sub", "Div", "Max", "Min", "Mod", "Greater", "Less", "Equal", "Where", "PRelu", "Sum"]


@wide(9)
def made_of_constants(g):
    """One number for each place, which an op turns into channels by a constant for each."""
    x = g.tensor()
    s, op, n = one(g, x), g.pick(OPS), g.pick([4, 6, 8])
    dtype = DTYPES[g.precision]
    k = along(g, x, planted(g, n).astype(dtype))
    if op == "Pow":
        y = g.add(op, g.add("Sigmoid", s), along(g, x, np.abs(planted(g, n)).astype(dtype)))
    elif op in ("Greater", "Less") or (op == "Equal" and g.opset >= 11):
        y = g.add("Cast", g.add(op, g.add("Round", s) if op == "Equal" else s, k), to=TO[g.precision])
    elif op == "Where":
        y = g.add(op, g.add("Greater", s, g.scalar(0.0)), k, along(g, x, planted(g, n).astype(dtype)))
    elif op == "Mod":
        whole = g.add("Cast", g.add("Mul", s, g.scalar(9.0)), to=7)
        y = g.add("Cast", g.add("Mod", whole, along(g, x, np.abs(planted(g, n, True)) + 1)), to=TO[g.precision])
    elif op == "Div":
        y = g.add(op, s, along(g, x, (np.abs(planted(g, n)) + 1).astype(dtype)))
    elif op == "PRelu":
        wide_ = g.add("Mul", s, along(g, x, np.ones(n, dtype)))
        y = g.add(op, wide_, k)
    elif op in ("Sub", "Add", "Mul", "Max", "Min"):
        y = g.add(op, *([s, k] if g.chance(2) else [k, s]))
    else:
        y = g.add("Sum", s, k, g.scalar(0.5))
    return g.like(y, x, n, degree=3)


@wide(11)
def one_hot(g):
    """Numbers of words by Equal with all of them."""
    x = g.tensor()
    words = g.add("Cast", g.add("Abs", g.add("Mul", one(g, x), g.scalar(3.0))), to=g.pick([6, 7]))
    kind = np.int32 if g.lines[-1].attributes.endswith("=6>") else np.int64
    n = g.pick([5, 8])
    k = along(g, x, np.arange(n, dtype=kind))
    y = g.like(g.add("Cast", g.add("Equal", words, k), to=TO[g.precision]), x, n)
    return g.like(linear(g, y, 6) if y.last or not y.places else convolution(g, y, 6), y, 6)


@wide(7)
def per_channel(g):
    """A constant for each channel at an op that takes one."""
    x = g.tame(g.tensor())
    n, dtype = x.features, DTYPES[g.precision]
    k = along(g, x, planted(g, n).astype(dtype))
    way = g.pick(["Pow", "PRelu", "Max", "Min", "Where", "Mul", "Sub", "Div", "Add", "Greater", "Less", "Sum", "Mean"])
    if way == "Pow":
        y = g.add("Pow", g.add("Sigmoid", x), along(g, x, np.abs(planted(g, n)).astype(dtype)))
    elif way == "Where" and g.opset >= 9:
        mask = along(g, x, np.arange(n) % 3 > 0)
        y = g.add("Where", mask, *([x, k] if g.chance(2) else [k, x]))
    elif way in ("Greater", "Less") and g.opset >= 9:
        y = g.add("Cast", g.add(way, *([x, k] if g.chance(2) else [k, x])), to=TO[g.precision])
    elif way == "Div":
        y = g.add("Div", x, along(g, x, (np.abs(planted(g, n)) + 1).astype(dtype)))
    elif way == "PRelu":
        y = g.add("PRelu", x, k)
    else:
        way = "Mul" if way in ("Where", "Greater", "Less") else way
        operands = [x, k] if g.chance(2) or way in ("Sub",) else [k, x]
        y = g.add(way, *operands, *([k] if way in ("Sum", "Mean") and g.chance(2) else []))
    return g.like(y, x, degree=x.degree + 1)


@wide(7)
def gemm_scaled(g):
    """Gemm with alpha and beta, and a bias in one of its forms."""
    x = flat(g)
    o = g.pick([4, 6, 8])
    b = g.weight(*g.pick([(o,), (1, o), (1,)]), kind="b")
    how = dict(alpha=g.pick([1.0, 0.5, 2.0]), beta=g.pick([1.0, 0.5, 2.0, 0.0]), transB=g.some(0, 1))
    w = g.weight(o, x.features) if how["transB"] else g.weight(x.features, o)
    return g.keep(g.add("Relu", g.add("Gemm", x, w, b, **how)), [o], degree=x.degree)


@wide(7)
def normalised_weights(g):
    """Weights of a layer, divided by their norm in the graph."""
    x = flat(g)
    o = g.pick([4, 6, 8])
    v = g.weight(o, x.features)
    way = g.pick(["lp1", "lp2", "l2"])
    if way == "l2":
        w = g.add("Div", v, g.add("ReduceL2", v, axes=[1], keepdims=1))
        w = g.add("Mul", w, g.weight(o, 1, kind="s"))
    else:
        w = g.add("LpNormalization", v, axis=g.some(0, 1), p=int(way[2]))
    b = [g.weight(o, kind="b")] if g.opset >= 11 and g.chance(2) else [g.weight(o, kind="b")]
    return g.keep(g.add("Relu", g.add("Gemm", x, w, *b, transB=1)), [o], degree=x.degree)


@wide(7)
def squeezed_scale(g):
    """A scale for each channel with an axis too many, which Squeeze takes away."""
    x = image(g, 2)
    s = g.add("Squeeze", g.weight(1, x.features, 1, 1, kind="s"), axes=[0])
    return g.like(g.add("Mul", x, s), x, degree=x.degree)


@wide(8)
def pooled_map(g):
    """A map added to an image, which is pooled from a constant."""
    x = image(g, 2)
    if g.loose:
        raise ValueError("needs written sizes")
    k = g.weight(1, x.features, *x.places)
    pad = g.pick(["SAME_LOWER", "SAME_UPPER"])
    m = g.add("MaxPool", k, kernel_shape=[2, 2], auto_pad=pad, strides=[1, 1])
    return g.like(g.add("Add", x, m), x)


@wide(7)
def clamped(g):
    """Bounds computed from constants."""
    x = g.tensor()
    if g.opset < 11:
        return g.like(g.add("Clip", x, min=-0.5, max=0.75), x)
    low = g.add("Neg", g.scalar(0.5)) if g.chance(2) else g.scalar(-0.5)
    return g.like(g.add("Clip", x, low, g.scalar(0.75)), x)


@wide(7)
def squeezed_excitation(g):
    """A gate whose layers are MatMul on squeezed channels."""
    x = g.tame(image(g, 2))
    p = g.add("Squeeze", g.add("GlobalAveragePool", x), axes=[2, 3])
    h = g.keep(g.add("Relu", g.add("MatMul", p, g.weight(x.features, 4))), [4])
    s = g.add("Sigmoid", linear(g, h, x.features))
    g.tensors.pop()
    return g.like(g.add("Mul", x, g.add("Unsqueeze", s, axes=[2, 3])), x, degree=x.degree + 1)


@wide(7)
def batch_norm_by_position(g):
    """BatchNormalization with parameters for each position, which ends with opset 8."""
    if g.opset > 8 or g.loose:
        raise ValueError("no such form")
    x = image(g, 2)
    kinds = zip("sbmv", [x.shape] * 4, strict=True)
    y = g.add("BatchNormalization", x, *(g.weight(*shape, kind=k) for k, shape in kinds), spatial=0)
    g.like(y, x)
