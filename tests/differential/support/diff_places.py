"""Growers of ops with a fixed axis to work on; here that is never the axis of the channels."""

from math import prod

import numpy as np
from diff_growth import own
from netgrow_kinds import convolution, image, linear, tokens
from netgrow_table import DTYPES, GROWERS

HOLDING = [
    "LRN", "ReverseSequence", "GroupNormalization", "GatherElements", "RoiAlign", "LayerNormalization", "Attention",
    "RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "Softmax", "LogSoftmax", "Hardmax", "CumSum",
    "TopK", "Trilu", "ArgMax", "ArgMin", "ReduceLogSum", "ReduceLogSumExp", "ReduceMin", "ReduceMax", "ReduceL1",
    "ReduceL2", "ReduceProd", "ReduceSum", "ReduceSumSquare", "RotaryEmbedding", "Swish", "Upsample", "LSTM", "GRU",
    "RNN", "Einsum", "DeformConv", "GridSample", "InstanceNormalization", "DepthToSpace", "SpaceToDepth", "Size",
]  # fmt: skip
"""Ops of which a graph has one: they hold some axis fast, or are to be had in few opsets."""
SELDOM = [
    "Upsample", "MeanVarianceNormalization", "CumSum", "RotaryEmbedding", "ReduceLogSumExp", "ReduceSum", "TopK",
    "GatherElements", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMin", "ReduceProd", "ReduceSumSquare", "RoiAlign",
    "ArgMax", "ArgMin",
]  # fmt: skip
"""Those of them that channels which go reach in fewer than half of the graphs."""
BATCH_KNOWN = {"GatherElements", "RoiAlign"}
"""Ops whose constants go with the batch."""


@own("LRN")
def lrn(g):
    """Over places."""
    x = tokens(g, 2)
    g.like(g.add("LRN", x, size=3, alpha=0.5), x, degree=1)


@own("ReverseSequence")
def reverse_sequence(g):
    tokens(g, 1)
    GROWERS["ReverseSequence"](g, "ReverseSequence")


@own("GroupNormalization")
def group_normalization(g):
    x = image(g)
    if x.features % 4:
        x = g.like(convolution(g, x, 8), x, 8)
    n = x.features if g.opset >= 21 else 4
    g.like(g.add("GroupNormalization", x, g.weight(n, kind="s"), g.weight(n, kind="b"), num_groups=4), x, degree=1)


@own("GatherElements")
def gather_elements(g):
    x = tokens(g, 1) if g.chance(2) else image(g)
    axis = g.pick(x.others)
    shape = [g.some(1, 3) if a == axis else n for a, n in enumerate(x.shape, 1)]
    chosen = np.random.default_rng(len(g.lines)).integers(0, x.shape[axis - 1], (g.batch, *shape))
    g.keep(g.add("GatherElements", x, g.array(chosen), axis=axis), shape, x.last, x.degree)


@own("RoiAlign")
def roi_align(g):
    x = image(g, 2)
    corners = np.sort(np.random.default_rng(len(g.lines)).uniform(0, 4, (2, 2, 2)), axis=1).reshape(2, 4)
    rois, batch = g.array(corners.astype(DTYPES[g.precision])), g.array(np.arange(2))
    g.like(g.add("RoiAlign", x, rois, batch, output_height=2, output_width=2, sampling_ratio=2), x, places=[2, 2])


@own("LayerNormalization")
def layer_normalization(g):
    _over_places(g, "LayerNormalization")


@own("RMSNormalization")
def rmsnormalization(g):
    _over_places(g, "RMSNormalization")


def _over_places(g, op):
    x = image(g)
    g.like(g.add(op, x, g.weight(*x.places, kind="s"), axis=2 if g.chance(2) else -len(x.places)), x, degree=1)


@own("Hardmax")
def hardmax(g):
    _exclusive(g, "Hardmax")


@own("LogSoftmax")
def log_softmax(g):
    _exclusive(g, "LogSoftmax")


def _exclusive(g, op):
    """Over places; before opset 13 over all axes from one on."""
    x = image(g)
    g.like(g.add(op, x, axis=g.pick(x.others) - (len(x.shape) + 1) * g.some(0, 1)), x, degree=1)


@own("BatchNormalization")
def batch_normalization(g):
    """Not of a layer, into which it would be folded."""
    x = image(g)
    x = g.like(g.add(g.pick(["Relu", "Tanh", "Abs"]), x), x)
    GROWERS["BatchNormalization"](g, "BatchNormalization")


@own("LpNormalization")
def lp_normalization(g):
    x = image(g)
    g.like(g.add("LpNormalization", x, axis=g.pick(x.others), p=g.some(1, 2)), x, degree=1)


@own("MeanVarianceNormalization")
def mean_variance_normalization(g):
    """Of numbers that differ, whatever weights are: equal ones make NaN."""
    x = image(g)
    if prod(x.places) == 1:
        places = [2, *x.places[1:]]
        x = g.like(g.add("Tile", x, g.ints(1, 1, *places)), x, places=places)
    steps = np.arange(prod(x.places)).reshape(1, 1, *x.places) / 2
    spread = g.add("Add", x, g.array(steps.astype(DTYPES[g.precision])))
    _nonlinear(g, x, g.add("MeanVarianceNormalization", spread, axes=x.others))


@own("InstanceNormalization")
def instance_normalization(g):
    x = image(g)
    y = g.add("InstanceNormalization", x, g.weight(x.features, kind="s"), g.weight(x.features, kind="b"))
    _nonlinear(g, x, y)


def _nonlinear(g, x, y):
    """Something else than normalised numbers, whose mean is nothing but rounding."""
    g.like(g.add(g.pick(["Relu", "Sigmoid", "Elu", "Abs"]), y), x, degree=1)


@own("ArgMax")
def arg_max(g):
    _place(g, "ArgMax")


@own("ArgMin")
def arg_min(g):
    _place(g, "ArgMin")


def _place(g, op):
    """Not read by a layer at once: onnxruntime crashes where one reads the cast of a place in what is transposed."""
    GROWERS[op](g, op)
    x = g.tensors[-1]
    g.like(g.add("Relu", x), x)


@own("RotaryEmbedding")
def rotary_embedding(g):
    """Of four heads, each of which may go."""
    x, half = tokens(g, 1), g.pick([1, 2])
    y = linear(g, x, 8 * half)
    angles = np.arange(x.places[0])[:, None] / (1 + np.arange(half))
    tables = [g.array(f(angles).astype(DTYPES[g.precision])[None]) for f in (np.cos, np.sin)]
    tables = [g.add("Expand", t, g.target(x, *angles.shape, exact=True)) for t in tables]
    y = g.add("RotaryEmbedding", y, *tables, num_heads=4, interleaved=g.some(0, 1))
    g.keep(y, [*x.places, 8 * half], last=True)


@own("DepthToSpace")
def depth_to_space(g):
    x = image(g, 2)
    x = g.like(convolution(g, x, 16), x, 16)
    mode = dict(mode=g.pick(["DCR", "CRD"])) if g.opset >= 11 else {}
    g.keep(g.add("DepthToSpace", x, blocksize=2, **mode), [4, *(2 * n for n in x.places)], degree=x.degree)


@own("Trilu")
def trilu(g):
    x = image(g, 2)
    g.like(g.add("Trilu", x, upper=g.some(0, 1)), x)


@own("TopK")
def top(g):
    x = g.tensor(lambda t: t.places) or image(g)
    axis = g.pick(x.others)
    n = g.some(1, x.shape[axis - 1])
    values, _ = g.add("TopK", x, g.ints(n), outputs=2, axis=axis)
    g.keep(values, [n if a == axis else m for a, m in enumerate(x.shape, 1)], x.last, x.degree)


@own("Size")
def size(g):
    """Of all entries, divided by the other sizes: the width of a row, or the number of channels that there were."""
    x = image(g)
    if g.chance(2):
        x = g.like(g.add("GlobalAveragePool", x), x, places=[1] * len(x.places))
        width = g.add("Div", g.add("Size", x), g.size(x, 0))
        return g.keep(g.add("Reshape", x, g.add("Concat", g.size(x, 0), width, axis=0)), [x.features], degree=x.degree)
    others = g.size(x, 0)
    for axis in x.others:
        others = g.add("Mul", others, g.size(x, axis))
    channels = g.add("Div", g.add("Size", x), others)
    row = g.add("Reshape", x, g.ints(-1))
    to = g.add("Concat", g.size(x, 0), channels, *(g.size(x, a) for a in x.others), axis=0)
    return g.like(g.add("Reshape", row, to), x)
