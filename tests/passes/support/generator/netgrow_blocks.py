"""Growers of small pieces that networks are made of; the table is by name."""

import numpy as np
from netgrow_kinds import apart, convolution, image, joined, linear, tokens
from netgrow_table import TO

ACTIVATIONS = ["Relu", "Relu", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh"]
BLOCKS = {}


def block(function):
    BLOCKS[function.__name__] = function
    return function


def activated(g, x):
    kinds = [k for k in ACTIVATIONS if k != "HardSwish" or g.opset >= 14]
    return g.add(g.pick(kinds), x)


@block
def residual(g):
    """A bottleneck added to what it reads."""
    x = image(g)
    inner = g.pick([4, 6, 8])
    a = g.like(activated(g, convolution(g, x, inner, kernel=3)), x, inner)
    g.like(g.add("Add", x, convolution(g, a, x.features)), x)


@block
def gate(g):
    """Pooled channels through two layers or one, multiplied back."""
    x = g.tame(image(g))
    inner = g.pick([2, 4])
    p = g.like(g.add("GlobalAveragePool", x), x, places=[1] * len(x.places), degree=1)
    q = g.like(g.add("Relu", convolution(g, p, inner)), p, inner) if g.chance(2) else p
    g.like(g.add("Mul", x, g.add("Sigmoid", convolution(g, q, x.features))), x, degree=x.degree + 1)


@block
def neighbours(g):
    """A gate of which each channel looks at those beside it."""
    x = g.tame(image(g))
    pooled = g.add("GlobalAveragePool", x)
    line = g.add("Reshape", pooled, g.target(x, 1, x.features))
    s = g.add("Sigmoid", g.add("Conv", line, g.weight(1, 1, 3), pads=[1, 1]))
    g.like(g.add("Mul", x, g.add("Reshape", s, g.target(x, "a1", *[1] * len(x.places)))), x, degree=x.degree + 1)


@block
def shuffle(g):
    """Channels dealt out anew."""
    x = image(g)
    n = g.pick([n for n in (2, 3, 4, 1) if x.features % n == 0])
    others = [f"a{a}" for a in x.others]
    groups = g.add("Reshape", x, g.target(x, n, x.features // n, *others))
    turned = g.add("Transpose", groups, perm=[0, 2, 1, *range(3, 3 + len(others))])
    g.like(g.add("Reshape", turned, g.target(x, "a1", *others)), x)


@block
def halves(g):
    """A layer on one half of the channels, all halves joined."""
    x = image(g)
    if x.features % 2:
        return
    c = x.features // 2
    a, b = (g.like(name, x, c) for name in g.add("Split", x, outputs=2, axis=1, split=[c, c]))
    d = activated(g, convolution(g, b, c, kernel=3))
    d = g.add("Add", b, d) if g.chance(2) else d
    parts = [a, b, d] if g.chance(2) else [a, d]
    g.like(g.add("Concat", *parts, axis=1), x, c * len(parts))


@block
def attention(g):
    """Queries of one tensor, keys and values of the same or another; one layer for each, or one for all three."""
    x = tokens(g, 1)
    z = g.tensor(lambda t: t.last and len(t.places) == 1) if g.chance(3) else x
    n, width = g.pick([1, 2, 2, 4]), g.pick([2, 3, 4])
    if z is x and g.chance(2):
        q, k, v = g.add("Split", linear(g, x, 3 * n * width), outputs=3, axis=2, split=[n * width] * 3)
        value = width
    else:
        value = g.pick([width, 3])
        q, k, v = linear(g, x, n * width), linear(g, z, n * width), linear(g, z, n * value)
    q, k, v = apart(g, x, q, n, width), apart(g, z, k, n, width), apart(g, z, v, n, value)
    qk = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2]))
    way = g.pick(["factor", "size", "mask", "none"])
    if way == "size":
        shape = g.add("Slice", g.add("Shape", q), starts=[3], ends=[4], axes=[0])
        qk = g.add("Div", qk, g.add("Sqrt", g.add("Cast", shape, to=TO[g.precision])))
    elif way == "mask":
        mask = g.array(np.tri(x.places[0], z.places[0], dtype=bool))
        qk = g.add("Where", mask, qk, g.scalar(-1e4))
    elif way == "factor":
        qk = g.add("Mul", qk, g.scalar(0.5))
    o = g.add("MatMul", g.add("Softmax", qk, axis=-1 if g.opset >= 13 else 3), v)
    y = linear(g, joined(g, x, o, n, value), x.features)
    g.like(g.add("Add", x, y) if g.chance(2) else y, x)


@block
def gated_layer(g):
    """A gated linear unit: one layer multiplied with a function of another."""
    x = tokens(g)
    o = g.pick([4, 6])
    a, b = linear(g, x, o), g.add("Sigmoid", linear(g, x, o))
    h = g.like(g.add("Mul", a, b), x, o, degree=2)
    g.like(linear(g, h, x.features), x)
