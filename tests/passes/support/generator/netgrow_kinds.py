"""Turns tensors into the kinds that layers read, and adds the layers that others are made of."""

from math import prod

import numpy as np
from netgrow_table import TO


def flat(g):
    """A tensor (N, C)."""
    found = g.tensor(lambda t: not t.places and t.features > 1)
    return found or flattened(g, g.tensor())


def flattened(g, x):
    """``x`` as (N, C): pooled, averaged, or all its entries in a row."""
    if not x.places:
        return x
    way = g.pick(["mean", "row", "pool"])
    if way == "row" and prod(x.shape) <= 64:
        y = g.add("Flatten", x, axis=1) if g.chance(2) else g.reshape(x, prod(x.shape))
        return g.keep(y, [prod(x.shape)], degree=x.degree)
    if way == "pool" and not x.last:
        pooled = g.add("GlobalAveragePool", x)
        y = g.add("Flatten", pooled) if g.chance(2) else g.add("Squeeze", pooled, axes=x.others)
    else:
        y = g.add("ReduceMean", x, axes=x.others, keepdims=0)
    return g.keep(y, [x.features], degree=x.degree)


def image(g, rank=None):
    """A tensor (N, C, ...) with ``rank`` axes behind the channels, or any number of them."""
    found = g.tensor(lambda t: t.places and not t.last and rank in (None, len(t.places)) and len(t.places) <= 3)
    if found:
        return found
    x = g.tensor()
    rank = rank or g.pick([1, 2, 2, 3])
    if not x.places:
        c = x.features if x.features % 8 == 0 else 16
        x = x if c == x.features else g.keep(g.add("MatMul", x, g.weight(x.features, c)), [c])
        return _reshaped(g, x, c // 8 if c > 8 else 1, _split(8 if c > 8 else c, rank))
    if x.last:
        y = g.add("Transpose", x, perm=[0, x.axis, *x.others])
        x = g.keep(y, [x.features, *x.places], degree=x.degree)
    return x if rank == len(x.places) else _reshaped(g, x, x.features, _split(prod(x.places), rank))


def _split(n, rank):
    """``n`` as a product of ``rank`` sizes."""
    sizes = []
    for _ in range(rank - 1):
        sizes.append(2 if n % 2 == 0 else 1)
        n //= sizes[-1]
    return [n, *sizes]


def _reshaped(g, x, features, places):
    entry = "a1" if features == x.features else features
    return g.keep(g.reshape(x, entry, *places), [features, *places], degree=x.degree)


def even(g, x):
    """``x``, its places padded to even numbers."""
    pads = [n % 2 for n in x.places]
    if not any(pads):
        return x
    y = g.add("Pad", x, pads=[0] * (len(x.shape) + 3) + pads)
    return g.like(y, x, places=[n + m for n, m in zip(x.places, pads, strict=True)])


def tokens(g, rank=None):
    """A tensor (N, ..., C) with ``rank`` axes between, or any number of them, or (N, C) for none."""
    found = g.tensor(lambda t: t.last and rank in (None, len(t.places)))
    if found:
        return found
    x = image(g, rank)
    y = g.add("Transpose", x, perm=[0, *x.others, 1])
    return g.keep(y, [*x.places, x.features], last=True, degree=x.degree)


def stored(g, *shape, axis):
    """A weight as it is, or as a node makes it of constants; ``axis``: that of the features made."""
    way = g.pick(["plain"] * 8 + ["scaled", "turned", "shared out", "coarse"])
    if way == "scaled":
        return g.add("Mul", g.weight(*shape), g.weight(*(n if a == axis else 1 for a, n in enumerate(shape)), kind="s"))
    if way == "turned":
        return g.add("Transpose", g.weight(*shape[::-1]))
    if way == "shared out":
        return g.add("Softmax", g.weight(*shape), axis=1)
    if way == "coarse" and g.opset >= 13:
        rng = np.random.default_rng(len(g.lines))
        whole = g.array(rng.integers(-90, 90, shape).astype(np.int8))
        step = g.array(rng.uniform(0.002, 0.008, shape[axis]).astype(np.float32))
        w = g.add("DequantizeLinear", whole, step, g.array(np.zeros(shape[axis], np.int8)), axis=axis)
        return w if g.precision == "float" else g.add("Cast", w, to=TO["double"])
    return g.weight(*shape)


def linear(g, x, o, bias=True):
    """A MatMul over the features of ``x``, which stand last, and a bias on either side; its name."""
    y = g.add("MatMul", x, stored(g, x.features, o, axis=1))
    if not bias or g.chance(3):
        return y
    b = g.weight(*g.pick([(o,), (o,), (1, o)]), kind="b")
    return g.add("Add", *((y, b) if g.chance(2) else (b, y)))


def convolution(g, x, o, groups=1, kernel=1, bias=True):
    """A convolution that keeps sizes; its name."""
    w = stored(g, o, x.features // groups, *[kernel] * len(x.places), axis=0)
    b = g.weight(o, kind="b") if bias else None
    return g.add("Conv", x, w, *([b] if bias else []), group=groups, pads=[kernel // 2] * 2 * len(x.places))


def apart(g, x, name, n, width):
    """``name`` (N, T, n * width), with the places of ``x``, as (N, n, T, width)."""
    return g.add("Transpose", g.add("Reshape", name, g.target(x, "a1", n, width)), perm=[0, 2, 1, 3])


def joined(g, x, name, n, width):
    """``name`` (N, n, T, width) as (N, T, n * width)."""
    y = g.add("Reshape", g.add("Transpose", name, perm=[0, 2, 1, 3]), g.target(x, "a1", n * width))
    return g.keep(y, [*x.places, n * width], last=True)
