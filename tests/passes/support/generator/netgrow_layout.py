"""Growers of ops that rearrange elements."""

from math import prod

import numpy as np
from netgrow_kinds import convolution, even, flat, image, tokens
from netgrow_table import DTYPES, TO, grows


@grows("Reshape", often=3)
def reshape(g, op):
    """Places in one row or in two; channels as groups of which the largest is taken; a row of features as an image."""
    way = g.pick(["merge", "split", "maxout", "fold"])
    if way == "fold":
        x = flat(g)
        n = g.pick([n for n in (2, 4, 1) if x.features % n == 0])
        return g.keep(g.reshape(x, x.features // n, n), [x.features // n, n], g.chance(2), degree=x.degree)
    x = image(g)
    if way == "merge":
        return g.keep(g.reshape(x, "a1", prod(x.places)), [x.features, prod(x.places)], degree=x.degree)
    if way == "split":
        places = [2, prod(x.places) // 2] if prod(x.places) % 2 == 0 else [prod(x.places), 1]
        return g.keep(g.reshape(x, "a1", *places), [x.features, *places], degree=x.degree)
    n = g.pick([n for n in (2, 3, 1) if x.features % n == 0])
    inner = g.chance(2)
    split = [x.features // n, n] if inner else [n, x.features // n]
    groups = g.reshape(x, *split, *(f"a{a}" for a in x.others))
    y = g.add(g.pick(["ReduceMax", "ReduceSum"]), groups, axes=[2 if inner else 1], keepdims=0)
    return g.like(y, x, x.features // n)


@grows("Flatten", often=1.5)
def flatten(g, op):
    x = image(g)
    if prod(x.shape) > 64:
        x = g.like(g.add("MaxPool", x, kernel_shape=list(x.places)), x, places=[1] * len(x.places))
    g.keep(g.add(op, x, axis=g.pick([1, -len(x.shape)]) if g.opset >= 11 else 1), [prod(x.shape)], degree=x.degree)


@grows("Squeeze", "Unsqueeze", often=2)
def squeeze(g, op):
    """Axes of one come behind the features or before them, and go again."""
    x = g.tensor(lambda t: len(t.shape) < 3) or flat(g)
    if op == "Unsqueeze":
        axis = g.pick([1, len(x.shape) + 1])
        shape = list(x.shape)
        shape.insert(axis - 1, 1)
        return g.keep(g.add(op, x, axes=[axis]), shape, last=axis == 1, degree=x.degree)
    u = g.add("Unsqueeze", x, axes=[1, 2])
    return g.like(g.add(op, u, axes=[1, 2]), x)


@grows("Transpose", often=3)
def transpose(g, op):
    """Features from first to last, or from last to first; places in another order."""
    x = g.tensor(lambda t: t.places) or image(g)
    if g.chance(3) and len(x.places) > 1:
        perm = [0, 1, *x.others[::-1]] if not x.last else [0, *x.others[::-1], x.axis]
        return g.like(g.add(op, x, perm=perm), x, places=x.places[::-1])
    perm = [0, x.axis, *x.others] if x.last else [0, *x.others, x.axis]
    return g.keep(g.add(op, x, perm=perm), [x.shape[a - 1] for a in perm[1:]], not x.last, x.degree)


@grows("DepthToSpace", "SpaceToDepth", often=2)
def blocks(g, op):
    x = even(g, image(g, 2)) if op == "SpaceToDepth" else image(g, 2)
    c, (h, w) = x.features, x.places
    if op == "SpaceToDepth":
        return g.keep(g.add(op, x, blocksize=2), [c * 4, h // 2, w // 2], degree=x.degree)
    if c % 4 or c < 8:
        c = 8
        x = convolution(g, x, c)
    mode = dict(mode=g.pick(["DCR", "CRD"])) if g.opset >= 11 else {}
    return g.keep(g.add(op, x, blocksize=2, **mode), [c // 4, h * 2, w * 2])


@grows("Shape", "ConstantOfShape", often=2)
def sized(g, op):
    """Zeros of a tensor's shape are added to it."""
    x = g.tensor()
    value = np.array([g.pick([0.0, 0.5])], DTYPES[g.precision])
    g.like(g.add("Add", x, g.add("ConstantOfShape", g.add("Shape", x), value=value)), x)


@grows("Size", often=0.5)
def counted(g, op):
    """A number computed from how many entries a tensor has."""
    x = g.tensor()
    number = g.add("Cast", g.add(op, g.tensor()), to=TO[g.precision])
    g.like(g.add("Div", x, g.add("Sqrt", number)), x)


@grows("Constant", often=1)
def constant(g, op):
    """A node instead of an initializer."""
    x = g.tensor()
    values = np.linspace(-1, 1, x.features).astype(DTYPES[g.precision])
    k = g.add(op, value=values.reshape([-1] + [1] * (0 if x.last else len(x.places))))
    g.like(g.add(g.pick(["Add", "Mul"]), x, k), x)


@grows("Expand", often=2)
def expand(g, op):
    """A pooled image to the size of the image; a constant beside tokens."""
    if g.chance(3):
        x = tokens(g, 1)
        token = g.add(op, g.weight(1, 1, x.features), g.target(x, 1, "a2", exact=True))
        return g.like(g.add("Concat", token, x, axis=1), x, places=[x.places[0] + 1])
    x = image(g)
    pooled = g.add("ReduceMean", x, axes=x.others, keepdims=1)
    ones = g.ints(1, *x.shape) if g.chance(2) else g.target(x, "a1", *(f"a{a}" for a in x.others), exact=True)
    return g.like(g.add("Sub", x, g.add(op, pooled, ones)), x)
