"""Growers of pooling, reductions, resampling and padding."""

from math import prod

import numpy as np
from netgrow_kinds import image
from netgrow_pointwise import guarded
from netgrow_table import TO, grows


@grows("MaxPool", "AveragePool", "LpPool", often=3)
def pool(g, op):
    x = image(g)
    rank = len(x.places)
    k, pad, stride = g.pick([(3, 1, 1), (1, 0, 1), (3, 1, 2), (2, 0, 2)])
    if k == 2 and any(n % 2 for n in x.places):
        k, pad, stride = 1, 0, 1
    y = g.add(op, x, kernel_shape=[k] * rank, pads=[pad] * 2 * rank, strides=[stride] * rank)
    g.like(y, x, places=[(n + 2 * pad - k) // stride + 1 for n in x.places])


@grows("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", often=2)
def global_pool(g, op):
    x = image(g)
    g.like(g.add(op, x), x, places=[1] * len(x.places))


@grows("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", often=3)
@grows("ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", often=2)
@grows("ArgMax", "ArgMin", often=0.5, rough=True)
def reduction(g, op):
    """Over some axes between batch and features, or over the features."""
    x = g.tensor(lambda t: t.places) or image(g)
    squares = op in ("ReduceProd", "ReduceSumSquare")
    x = g.tame(guarded(g, x, {"ReduceLogSum": "Log", "ReduceProd": "Log"}.get(op, op)))
    arg, keep = op.startswith("Arg"), g.some(0, 1)
    if g.chance(6):
        axes, keep, features, places = [x.axis], 1, 1, x.places
    else:
        axes, features = sorted({g.pick(x.others) for _ in range(1 if arg else 2)}), x.features
        sizes = zip(x.others, x.places, strict=True)
        places = [1 if a in axes else n for a, n in sizes if keep or a not in axes]
    signed = [a - (len(x.shape) + 1) * g.some(0, 1) for a in axes]
    y = g.add(op, x, keepdims=keep, **(dict(axis=signed[0]) if arg else dict(axes=signed)))
    y = g.add("Cast", y, to=TO[g.precision]) if arg else y
    g.like(y, x, features, places, degree=2 * x.degree if squares else x.degree)


@grows("Resize", "Upsample", often=1.5)
def resample(g, op):
    """By a factor, or to a size that is written down or computed."""
    x = image(g, 2)
    grow = op == "Upsample" or prod(x.places) <= 4
    places = [n * 2 if grow else max(n // 2, 1) for n in x.places]
    mode = dict(mode=g.pick(["nearest", "nearest", "linear"] if op == "Resize" else ["nearest"]))
    scales = g.array(np.array([1, 1, *(m / n for m, n in zip(places, x.places, strict=True))], np.float32))
    if op == "Upsample" or g.opset < 11:
        y = g.add(op, x, scales, **mode)
    elif g.chance(2):
        y = g.add(op, x, None, scales, **mode)
    else:
        y = g.add(op, x, None, None, g.target(x, "a1", *places, exact=True), **mode)
    g.like(y, x, places=places)


@grows("Pad", often=2)
def pad(g, op):
    """Of channels or places, with zeros, another number, or what stands there."""
    x = image(g)
    rank = len(x.shape) + 1
    axis = g.pick([1, 1, *x.others])
    low, high = g.some(0, 2), g.some(0, 2)
    mode = g.pick(["constant", "constant", "constant", "edge", "reflect"])
    if mode == "reflect":
        low, high = min(low, x.shape[axis - 1] - 1), min(high, x.shape[axis - 1] - 1)
    pads = [0] * 2 * rank
    pads[axis], pads[axis + rank] = low, high
    fill = {"value" if g.opset < 11 else "constant_value": 0.7} if mode == "constant" and g.chance(3) else {}
    if g.opset >= 18 and g.chance(2):
        y = g.add(op, x, pads=[low, high], axes=[axis], mode=mode, **fill)
    else:
        y = g.add(op, x, pads=pads, mode=mode, **fill)
    shape = [n + (low + high if a == axis else 0) for a, n in enumerate(x.shape, 1)]
    g.keep(y, shape, degree=x.degree)
