"""Growers of arithmetic on sizes, as exporters write it: padding to a skip, crops, tables, views, coordinates."""

import numpy as np
from diff_growth import wide
from netgrow_kinds import convolution, image, linear, tokens
from netgrow_table import TO

END = 2**31


def number(g, x, axis):
    """The size of an axis as a scalar."""
    return g.add("Gather", g.add("Shape", x), g.array(np.array(axis)), axis=0)


def vector(g, scalar):
    return g.add("Unsqueeze", scalar, axes=[0])


def slice_(g, x, axis, start, end):
    """``start`` and ``end``: names of lists of one integer."""
    return g.add("Slice", x, start, end, g.ints(axis))


def shape_of(g, x, *entries):
    """A list of sizes: integers are written down, ``"a2"`` are read off ``x``, other names are lists."""
    parts = []
    for e in entries:
        read = isinstance(e, str) and e[0] == "a" and e[1:].isdigit()
        parts.append(g.size(x, int(e[1:])) if read else g.ints(e) if isinstance(e, int) else e)
    return g.add("Concat", *parts, axis=0)


def channels(g, x):
    """The number of channels: written down, or read off ``x``."""
    return "a1" if g.chance(2) else x.features


def plane(g):
    return image(g, 2)


@wide(11)
def pad_to_skip(g):
    """A U-Net's step: down, up, padded to the size of the skip, joined or added."""
    x = plane(g)
    c, (h, w) = x.features, x.places
    p = g.like(g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=0), x, places=[h // 2, w // 2])
    d = g.like(g.add("Relu", convolution(g, p, c)), p, c)
    u = g.add("ConvTranspose", d, g.weight(c, c, 2, 2), strides=[2, 2])
    ends = [g.add("Sub", g.size(x, a), g.size(u, a)) for a in (2, 3)]
    if g.chance(3):  # half on each side
        starts = [g.add("Div", e, g.ints(2)) for e in ends]
        ends = [g.add("Sub", e, s) for e, s in zip(ends, starts, strict=True)]
        pads = g.add("Concat", g.ints(0, 0), *starts, g.ints(0, 0), *ends, axis=0)
    else:
        pads = g.add("Concat", g.ints(0, 0, 0, 0), g.ints(0, 0), *ends, axis=0)
    q = g.like(g.add("Pad", u, pads), x)
    if g.chance(2):
        return g.like(g.add("Concat", x, q, axis=1), x, 2 * c)
    return g.like(g.add("Add", x, q), x)


@wide(10)
def crop_at_most(g):
    """At most k rows."""
    x = g.tensor(lambda t: t.places) or plane(g)
    axis = g.pick(x.others)
    k = g.pick([1, 2, 3, 5, 8, 48])
    y = slice_(g, x, axis, g.ints(0), g.ints(k))
    shape = [min(k, n) if a == axis else n for a, n in enumerate(x.shape, 1)]
    return g.keep(y, shape, x.last, x.degree)


@wide(10)
def crop_computed(g):
    """All rows but one, or the first half, counted from the size."""
    x = g.tensor(lambda t: t.places and max(t.places) > 1) or plane(g)
    axis = g.pick(x.others)
    n, size = x.shape[axis - 1], g.size(x, axis)
    way = g.pick(["less", "half", "from"])
    if way == "less" and n > 1:
        return g.keep(slice_(g, x, axis, g.ints(0), g.add("Sub", size, g.ints(1))), _cut(x, axis, n - 1), x.last)
    if way == "half" and n > 1:
        return g.keep(slice_(g, x, axis, g.ints(0), g.add("Div", size, g.ints(2))), _cut(x, axis, n // 2), x.last)
    half = g.add("Div", size, g.ints(2))
    return g.keep(slice_(g, x, axis, half, g.ints(END)), _cut(x, axis, n - n // 2), x.last)


def _cut(x, axis, n):
    return [n if a == axis else m for a, m in enumerate(x.shape, 1)]


@wide(10)
def position_table(g):
    """A learned table of more rows than there are places, sliced to the length."""
    x = tokens(g, 1)
    table = g.weight(1, g.pick([12, 48]), x.features)
    p = slice_(g, table, 1, g.ints(0), g.size(x, 1))
    return g.like(g.add("Add", x, p), x)


@wide(11)
def coordinates(g):
    """Maps of rows and columns beside the channels."""
    x = plane(g)
    maps = []
    for axis in (2, 3):
        n = number(g, x, axis)
        r = g.add("Cast", g.add("Range", g.array(np.array(0)), n, g.array(np.array(1))), to=TO[g.precision])
        r = g.add("Div", r, g.add("Cast", n, to=TO[g.precision])) if g.chance(2) else g.add("Mul", r, g.scalar(0.1))
        line = g.add("Reshape", r, g.ints(1, 1, -1, 1) if axis == 2 else g.ints(1, 1, 1, -1))
        maps.append(g.add("Expand", line, shape_of(g, x, "a0", 1, "a2", "a3")))
    return g.like(g.add("Concat", x, *maps, axis=1), x, x.features + 2)


@wide(9)
def computed_shuffle(g):
    """Channels dealt out anew, the number of channels read off the tensor and divided."""
    x = plane(g)
    n = g.pick([m for m in (2, 3, 4) if x.features % m == 0] or [1])
    each = g.add("Div", g.size(x, 1), g.ints(n)) if g.chance(2) else x.features // n
    v = g.add("Reshape", x, shape_of(g, x, "a0", n, each, "a2", "a3"))
    t = g.add("Transpose", v, perm=[0, 2, 1, 3, 4])
    to = g.add("Shape", x) if g.chance(2) else shape_of(g, x, "a0", channels(g, x), "a2", "a3")
    return g.like(g.add("Reshape", t, to), x)


@wide(9)
def computed_flatten(g):
    """All but the batch in one row, whose width is a product of sizes; or only the places."""
    x = plane(g)
    if g.chance(2):
        rows = g.add("Mul", g.size(x, 2), g.size(x, 3))
        y = g.add("Reshape", x, shape_of(g, x, "a0", channels(g, x), rows))
        return g.keep(y, [x.features, x.places[0] * x.places[1]], degree=x.degree)
    x = g.like(g.add("GlobalAveragePool", x), x, places=[1, 1])
    rest = g.add("Slice", g.add("Shape", x), starts=[1], ends=[4], axes=[0])
    if g.opset < 18:
        width = g.add("ReduceProd", rest, axes=[0], keepdims=1)
    else:
        width = g.add("ReduceProd", rest, g.ints(0), keepdims=1)
    return g.keep(g.add("Reshape", x, shape_of(g, x, "a0", width)), [x.features], degree=x.degree)


@wide(10)
def clips(g):
    """Frames ride in the batch, two to a clip; each clip's frames change places."""
    x = plane(g)
    n = g.add("Div", g.size(x, 0), g.ints(2))
    v = g.add("Reshape", x, shape_of(g, x, n, 2, channels(g, x), "a2", "a3"))
    late, early = slice_(g, v, 1, g.ints(1), g.ints(END)), slice_(g, v, 1, g.ints(0), g.ints(1))
    back = g.add("Concat", late, early, axis=1)
    to = g.add("Shape", x) if g.chance(2) else shape_of(g, x, "a0", channels(g, x), "a2", "a3")
    return g.like(g.add("Reshape", back, to), x)


@wide(11)
def resize_to(g):
    """To sizes that are computed: twice or half as large, or back to another tensor's."""
    x = plane(g)
    mode = g.pick(["nearest", "linear"])
    way = g.pick(["double", "back", "scales", "axes"])
    if way == "back":
        s = g.like(g.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), x)
        to = g.add("Concat", g.size(s, 0), g.size(s, 1), g.size(x, 2), g.size(x, 3), axis=0)
        y = g.add("Resize", s, None, None, to, mode=mode)
        g.tensors.pop()
        return g.like(y, x)
    if way == "scales":
        hw = g.add("Cast", g.add("Concat", g.size(x, 2), g.size(x, 3), axis=0), to=1)
        twice = g.add("Mul", hw, g.array(np.array(2.0, np.float32)))
        scales = g.add("Concat", g.array(np.ones(2, np.float32)), g.add("Div", twice, hw), axis=0)
        y = g.add("Resize", x, None if g.opset >= 13 else g.array(np.ones(0, np.float32)), scales, mode=mode)
        return g.like(y, x, places=[2 * n for n in x.places])
    if way == "axes" and g.opset >= 18:
        c = x.features
        to = g.add("Concat", g.ints(c), *(g.add("Mul", g.size(x, a), g.ints(2)) for a in (2, 3)), axis=0)
        y = g.add("Resize", x, None, None, to, mode="nearest", axes=[1, 2, 3])
        return g.like(y, x, places=[2 * n for n in x.places])
    to = shape_of(g, x, "a0", channels(g, x), *(g.add("Mul", g.size(x, a), g.ints(2)) for a in (2, 3)))
    y = g.add("Resize", x, None, None, to, mode=mode)
    return g.like(y, x, places=[2 * n for n in x.places])


@wide(9)
def filled_to_size(g):
    """A constant of a computed shape, added or joined."""
    x = plane(g)
    value = np.array([g.pick([0.0, 0.5])], np.float32 if g.precision == "float" else np.float64)
    if g.chance(2):
        shape = shape_of(g, x, "a0", channels(g, x), "a2", "a3")
        return g.like(g.add("Add", x, g.add("ConstantOfShape", shape, value=value)), x)
    k = g.add("ConstantOfShape", shape_of(g, x, "a0", 2, "a2", "a3"), value=value)
    return g.like(g.add("Concat", x, k, axis=1), x, x.features + 2)


@wide(11)
def masked_by_length(g):
    """Places from a computed row on are zero."""
    x = plane(g)
    n = number(g, x, 2)
    r = g.add("Range", g.array(np.array(0)), n, g.array(np.array(1)))
    bound = g.add("Div", n, g.array(np.array(2))) if g.chance(2) else g.array(np.array(3))
    mask = g.add("Reshape", g.add("Less", r, bound), g.ints(1, 1, -1, 1))
    return g.like(g.add("Where", mask, x, g.scalar(0.0)), x)


@wide(9)
def tiled(g):
    """Pooled, and repeated to the size again."""
    x = plane(g)
    p = g.add("ReduceMax", x, axes=[2, 3], keepdims=1) if g.opset < 18 else g.add("GlobalMaxPool", x)
    t = g.add("Tile", p, shape_of(g, x, 1, 1, "a2", "a3"))
    return g.like(g.add("Sub", x, t), x)


@wide(11)
def padded_to_even(g):
    """To a multiple of two, through a strided layer and its transpose, and cut to the size again."""
    x = plane(g)
    c = x.features
    two = g.ints(2)
    more = [g.add("Mod", g.add("Sub", two, g.add("Mod", g.size(x, a), two)), two) for a in (2, 3)]
    p = g.add("Pad", x, g.add("Concat", g.ints(0, 0, 0, 0), g.ints(0, 0), *more, axis=0))
    inner = g.pick([4, 6])
    d = g.add("Relu", g.add("Conv", p, g.weight(inner, c, 2, 2), g.weight(inner, kind="b"), strides=[2, 2]))
    u = g.add("ConvTranspose", d, g.weight(inner, c, 2, 2), strides=[2, 2])
    y = slice_(g, slice_(g, u, 2, g.ints(0), g.size(x, 2)), 3, g.ints(0), g.size(x, 3))
    return g.like(g.add("Add", x, y) if g.chance(2) else y, x)


@wide(9)
def computed_heads(g):
    """Heads whose width is the number of features divided, as PyTorch traces it."""
    x = tokens(g, 1)
    n = g.pick([2, 4])
    q, k = linear(g, x, 4 * n), linear(g, x, 4 * n)
    width = g.add("Div", g.size(q, 2), g.ints(n))

    def apart(t):
        return g.add("Transpose", g.add("Reshape", t, shape_of(g, t, "a0", "a1", n, width)), perm=[0, 2, 1, 3])

    a = g.add("MatMul", apart(q), g.add("Transpose", apart(k), perm=[0, 1, 3, 2]))
    a = g.add("Softmax", g.add("Mul", a, g.scalar(0.5)), axis=3)
    o = g.add("Transpose", g.add("MatMul", a, apart(linear(g, x, 4 * n))), perm=[0, 2, 1, 3])
    y = g.add("Reshape", o, shape_of(g, x, "a0", "a1", -1))
    return g.keep(y, [*x.places, 4 * n], last=True)


@wide(9)
def flags(g):
    """The first and the last place of each row of features, by Gather with a computed index."""
    x = tokens(g, 1)
    last = g.add("Sub", g.size(x, 1), g.ints(1))
    y = g.add("Squeeze", g.add("Gather", x, last, axis=1), axes=[1])
    return g.keep(y, [x.features], degree=x.degree)
