"""Growers of layers with weights."""

from math import prod

from netgrow_kinds import flat, image, joined, linear, tokens
from netgrow_table import grows


@grows("Conv", often=12)
def conv(g, op):
    x = image(g)
    c, rank = x.features, len(x.places)
    shared = [(w, groups) for w, groups in g.filters if g.weights[w][1] * groups == c and len(g.weights[w]) == rank + 2]
    if shared and g.chance(3):
        w, groups = g.pick(shared)
    else:
        groups = g.pick([n for n in (1, 1, 1, 2, 3, 4, c, c) if c % n == 0])
        o = groups * g.pick([n for n in (1, 2, 3, 4, 6, 8, 12) if 2 <= n * groups <= 16] or [1])
        w = g.weight(o, c // groups, *[g.pick([1, 3])] * rank)
        g.filters.append((w, groups))
    o, _, k = g.weights[w][:3]
    stride, dilation = g.pick([1, 1, 1, 2]), g.pick([1, 1, 1, 2])
    places = [(n - 1) // stride + 1 for n in x.places]
    b = [g.weight(o, kind="b")] if g.chance(2) else []
    if g.chance(6) and dilation == 1:
        how = dict(auto_pad="SAME_UPPER")
    else:
        how = dict(pads=[k // 2 * dilation] * 2 * rank, dilations=[dilation] * rank)
    g.keep(g.add(op, x, w, *b, group=groups, strides=[stride] * rank, **how), [o, *places])


@grows("ConvTranspose", often=2)
def conv_transpose(g, op):
    x = image(g)
    rank, groups = len(x.places), g.pick([n for n in (1, 1, 2, x.features) if x.features % n == 0])
    o = g.pick([n for n in (1, 2, 3, 4, 8) if 2 <= n * groups <= 16] or [1])
    k = g.pick([1, 2]) if prod(x.places) <= 8 else 1
    w, b = g.weight(x.features, o, *[k] * rank), [g.weight(o * groups, kind="b")] if g.chance(2) else []
    g.keep(g.add(op, x, w, *b, group=groups, strides=[k] * rank), [o * groups, *(n * k for n in x.places)])


@grows("Gemm", often=4)
def gemm(g, op):
    x = flat(g)
    c, o = x.features, g.pick([4, 6, 8, 12])
    way = g.pick(["plain", "plain", "plain", "trans_a", "left", "rows"])
    if way == "left":  # features first: the weights are the left operand
        w = g.weight(c, o) if (trans := g.chance(2)) else g.weight(o, c)
        y = g.add(op, w, g.add("Transpose", x), g.weight(o, 1, kind="b"), transA=int(trans))
        return g.keep(g.add("Transpose", y), [o])
    if way == "rows":  # every place is a row
        t = tokens(g, 1)
        rows = g.add("Reshape", t, g.ints(-1, t.features))
        y = g.add(op, rows, g.weight(t.features, o), g.weight(o, kind="b"))
        return g.keep(g.add("Reshape", y, g.target(t, "a1", o, zero=False)), [*t.places, o], last=True)
    trans = g.chance(2)
    w = g.weight(o, c) if trans else g.weight(c, o)
    b = [g.weight(*g.pick([(o,), (o,), (1, o), (1,)]), kind="b")] if g.opset < 11 or not g.chance(3) else []
    x = g.add("Transpose", x) if way == "trans_a" else x
    scale = dict(alpha=0.5, beta=2.0) if g.chance(3) else {}
    return g.keep(g.add(op, x, w, *b, transA=int(way == "trans_a"), transB=int(trans), **scale), [o])


@grows("MatMul", often=6)
def matmul(g, op):
    way, o = g.pick(["tokens", "tokens", "flat", "left", "gram", "heads"]), g.pick([4, 6, 8, 12])
    if way == "left":
        x = image(g, 1)
        y = g.add(op, g.weight(o, x.features), x)
        return g.keep(g.add("Add", y, g.weight(o, 1, kind="b")) if g.chance(2) else y, [o, *x.places])
    if way == "gram":  # sums over the features of two activations
        x = g.tame(tokens(g, 1))
        y = g.add(op, x, g.add("Transpose", x, perm=[0, 2, 1]))
        return g.keep(g.add("Mul", y, g.scalar(1 / x.features)), [x.shape[0]] * 2, last=True, degree=2 * x.degree)
    if way == "heads":  # a matrix for each head
        x, n = tokens(g, 1), g.pick([2, 3])
        y = g.add(op, g.add("Unsqueeze", x, axes=[1]), g.weight(n, x.features, 4))
        return joined(g, x, y, n, 4)
    x = flat(g) if way == "flat" else tokens(g)
    return g.keep(linear(g, x, o), [*x.places, o], last=True)


@grows("Einsum", often=3)
def einsum(g, op):
    way, o = g.pick(["conv", "left", "tokens", "flat", "gram", "outer", "heads"]), g.pick([4, 6, 8])
    if way == "conv":
        x = image(g, 2)
        return g.keep(g.add(op, x, g.weight(o, x.features), equation="nchw,oc->nohw"), [o, *x.places])
    if way == "left":
        x = image(g, 1)
        return g.keep(g.add(op, g.weight(o, x.features), x, equation="oc,ncl->nol"), [o, *x.places])
    if way == "tokens":
        x = tokens(g, 1)
        return g.keep(g.add(op, x, g.weight(x.features, o), equation="ntc,co->nto"), [*x.places, o], last=True)
    if way == "heads":
        x, n = tokens(g, 1), g.pick([2, 3])
        equation, shape = g.pick([("ntc,hcd->nhtd", (n, x.features, 4)), ("ntc,chd->nhtd", (x.features, n, 4))])
        return joined(g, x, g.add(op, x, g.weight(*shape), equation=equation), n, 4)
    if way == "gram":
        x, z = g.tame(tokens(g, 1)), g.tame(tokens(g, 1))
        if x.features == z.features:
            y = g.add(op, x, z, equation="nqc,nkc->nqk")
            return g.keep(y, [x.shape[0], z.shape[0]], last=True, degree=x.degree + z.degree)
    x, z = flat(g), flat(g)
    if way == "outer" and x.features * z.features <= 64:
        x, z = g.tame(x), g.tame(z)
        return g.keep(g.add(op, x, z, equation="nc,nd->ncd"), [x.features, z.features], degree=x.degree + z.degree)
    return g.keep(g.add(op, x, g.weight(x.features, o), equation="nc,co->no"), [o])
