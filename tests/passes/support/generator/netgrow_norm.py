"""Growers of normalisations, softmax and quantisation."""

from math import prod

import numpy as np
from netgrow_kinds import image, tokens
from netgrow_table import TO, grows


@grows("BatchNormalization", often=5)
def batch_norm(g, op):
    x = g.tensor(lambda t: not t.last) or image(g)
    c = x.features
    y = g.add(op, x, g.weight(c, kind="s"), g.weight(c, kind="b"), g.weight(c, kind="m"), g.weight(c, kind="v"))
    g.like(y, x)


@grows("InstanceNormalization", often=1.5)
def instance_norm(g, op):
    x = image(g)
    g.like(g.add(op, x, g.weight(x.features, kind="s"), g.weight(x.features, kind="b")), x, degree=1)


@grows("GroupNormalization", often=1.5)
def group_norm(g, op):
    """Scale and bias stand for groups before opset 21, for channels from then on."""
    x = image(g)
    groups = g.pick([n for n in (1, 2, 4, x.features) if x.features % n == 0])
    n = x.features if g.opset >= 21 else groups
    g.like(g.add(op, x, g.weight(n, kind="s"), g.weight(n, kind="b"), num_groups=groups), x, degree=1)


@grows("LayerNormalization", "RMSNormalization", often=3)
def layer_norm(g, op):
    """Over the features of tokens, or over the places of an image."""
    x = tokens(g) if g.chance(2) else image(g)
    first = 1 if g.chance(6) else len(x.shape) if x.last else 2
    scale = g.weight(*x.shape[first - 1 :], kind="s")
    bias = [g.weight(*x.shape[first - 1 :], kind="b")] if op[0] == "L" and g.chance(2) else []
    g.like(g.add(op, x, scale, *bias, axis=first - (len(x.shape) + 1) * g.some(0, 1)), x, degree=1)


@grows("LRN", "LpNormalization", often=1)
def unweighted(g, op):
    x = image(g, 2) if op == "LRN" else image(g)
    axis = g.pick([1, *x.others, *x.others]) - (len(x.shape) + 1) * g.some(0, 1)
    how = dict(size=3, alpha=0.5) if op == "LRN" else dict(axis=axis, p=2)
    g.like(g.add(op, x, **how), x, degree=1)


@grows("MeanVarianceNormalization", often=0.5)
def standardised(g, op):
    """Of numbers that differ: equal ones make NaN."""
    x = image(g)
    spread = g.add("Add", x, g.weight(*x.shape))
    g.like(g.add(op, spread, axes=x.others if prod(x.places) > 1 else [1, *x.others]), x, degree=1)


@grows("Softmax", "LogSoftmax", often=2)
@grows("Hardmax", often=0.5, rough=True)
def softmax(g, op):
    x = g.tensor()
    axis = g.pick([*range(1, len(x.shape) + 1), *x.others])
    g.like(g.add(op, x, axis=axis - (len(x.shape) + 1) * g.some(0, 1)), x, degree=1)


@grows("QuantizeLinear", "DequantizeLinear", often=1.5, rough=True)
def quantize(g, op):
    """There and back: one grid for all, or one for each channel."""
    x = g.tensor()
    size = [x.features] if (each := g.opset >= 13 and g.chance(2)) else []
    rng = np.random.default_rng(len(g.lines))
    step = g.array(np.asarray(rng.uniform(0.02, 0.1, size), np.float32))
    zero = g.array(np.asarray(rng.integers(-9, 9, size), np.int8))
    axis = dict(axis=x.axis - (len(x.shape) + 1) * g.some(0, 1)) if each else {}
    whole = g.add("QuantizeLinear", g.add("Cast", x, to=TO["float"]), step, zero, **axis)
    g.like(g.add("Cast", g.add("DequantizeLinear", whole, step, zero, **axis), to=TO[g.precision]), x)
