"""Rules and gradients of normalisations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passes.axes.algebra import product
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, ChannelAffine, NormForm, OpFacts
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import same_axes
from passes.graph.model import Graph, Node
from passes.interface.errors import Refusal


@rule("BatchNormalization")
def batch_normalization(op: Op) -> None:
    """X: N C ..., scale, bias, mean, variance: C -> Y: N C ...; affine on each channel at inference.

    With spatial=0 (before opset 9) the parameters are C ..., those of one place: affine on each place.
    """
    if op.attr("training_mode", 0):
        raise Refusal("normalises by the batch (training_mode=1)")
    if not all(op.is_constant(k) for k in range(1, 5)):
        raise Refusal("has parameters that are computed from the data")
    letters = same_axes(op)
    for k in range(1, 5):
        for axis, letter in enumerate(letters[1 : 1 + len(op.shape(k))]):
            op.put(k, axis, letter)
    op.scales(Scaling.LINEAR, weights=[1, 4], offsets=[2, 3])


def batchnorm_affine(graph: Graph, node: Node) -> ChannelAffine:
    """The affine map of a BatchNormalization at inference (Ioffe & Szegedy 2015, Alg. 2)."""
    scale, bias, mean, variance = (graph.array(name).astype(np.float64) for name in node.inputs[1:5])
    a = scale / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
    return ChannelAffine(a, bias - mean * a)


facts("BatchNormalization", known=OpFacts(affine=batchnorm_affine))


@rule("InstanceNormalization")
def instance_normalization(op: Op) -> None:
    """X: N C ..., scale, bias: C -> Y: N C ...; each channel is normalised by itself, so no scale passes."""
    letters = same_axes(op)
    for k in (1, 2):
        op.put(k, 0, letters[1])
    for letter in letters[2:]:
        op.freeze(letter, "normalises over it")


@rule("GroupNormalization")
def group_normalization(op: Op) -> None:
    """X: N (g c) ..., scale, bias: (g c) (g before opset 21); whole groups may go, c is normalised over."""
    groups = op.attr("num_groups")
    letters = op.pattern("N (g c) ... -> N (g c) ...", g=groups)
    for k in (1, 2):
        (n,) = op.shape(k)
        op.put(k, 0, letters["g"] if n == groups else product([letters["g"], letters["c"]]))
    op.freeze(letters["c"], "normalises over it")
    op.resize_attr("num_groups", letters["g"])


facts("InstanceNormalization", known=OpFacts(scale_and_bias=(1, 2)))
facts("GroupNormalization", known=ABSENT)


RMS = ("RMSNormalization", "SimplifiedLayerNormalization")
"""RMS normalisation: ONNX's own from opset 23 on, and onnxruntime's in the standard domain, which also gives 1 /
deviation."""


@rule("LayerNormalization", *RMS, "LpNormalization", "MeanVarianceNormalization", "LRN")
def layer_normalization(op: Op) -> None:
    """Normalises over trailing (or given) axes. These are frozen, the others pass. Of a single last axis, mixtures may
    be removed."""
    letters = same_axes(op)
    rank = len(letters)
    kind = op.node.op
    if kind == "LRN":
        axes = [1]
    elif kind == "LpNormalization":
        axes = [op.attr("axis", -1)]
    elif kind == "MeanVarianceNormalization":
        axes = list(op.attr("axes", [0, 2, 3]))
    else:
        first = op.attr("axis", -1) % rank
        axes = list(range(first, rank))
        for k in (1, 2):
            if op.has(k):
                offset = rank - len(op.shape(k))
                for axis, n in enumerate(op.shape(k)):
                    op.put(k, axis, letters[offset + axis] if n > 1 else op.letter(1))
    if kind in ("LayerNormalization", *RMS) and axes == [rank - 1] and not any(op.node.outputs[1:]):
        op.normalises(letters[-1])
        return
    for axis in axes:
        op.freeze(letters[axis], "normalises over it")


facts("LayerNormalization", known=OpFacts(broadcasts=True, norm=NormForm(centred=True)))
facts(*RMS, known=OpFacts(broadcasts=True, norm=NormForm(centred=False)))
facts("LpNormalization", "MeanVarianceNormalization", "LRN", known=ABSENT)


# -- gradients ---------------------------------------------------------------------------------------------------------
def _normalised(back: Backward, source: str, axes: Sequence[int], centred: bool) -> tuple[str, str]:
    """(x - mean) / sqrt(variance + epsilon) over ``axes``, and 1 / sqrt(variance + epsilon); without the mean where
    not ``centred``."""
    write = back.write
    rest = back.op("Sub", source, write.mean(source, axes)) if centred else source
    square = write.mean(back.op("Mul", rest, rest), axes)
    floor = 1e-9 if back.node.op == "MeanVarianceNormalization" else float(back.attr("epsilon", 1e-5))
    scale = back.op("Reciprocal", back.op("Sqrt", back.plus(square, floor)))
    return back.op("Mul", rest, scale), scale


def _norm_back(back: Backward, unit: str, scale: str, outer: str, axes: Sequence[int], centred: bool) -> str:
    """The gradient at x from ``outer``, that at u = (x - mean) / deviation: (g - mean g - u mean(g u)) / deviation."""
    write = back.write
    found = back.op("Sub", outer, back.op("Mul", unit, write.mean(back.op("Mul", outer, unit), axes)))
    if centred:
        found = back.op("Sub", found, write.mean(outer, axes))
    return back.op("Mul", found, scale)


@gradient("BatchNormalization")
def _batch_normalization_back(back: Backward) -> None:
    """y = (x - m) a + b with a = s / sqrt(v + epsilon), for x, s, b, m and v."""
    write, rank = back.write, back.rank()
    if back.attr("training_mode", 0) or (back.graph.opset < 7 and not back.attr("is_test", 0)):
        raise Refusal("has no gradient where it normalises by the batch")
    whole = len(back.shape(1)) > 1 or rank < 2  # parameters for each place
    axes = [0] if whole else [0, *range(2, rank)]
    place = (lambda name: name) if whole else (lambda name: write.unsqueeze(name, list(range(1, rank - 1))))
    root = back.op("Sqrt", back.plus(back.x(4), float(back.attr("epsilon", 1e-5))))
    scale = back.op("Div", back.x(1), root)
    if back.wants(0):
        back.give(0, back.op("Mul", back.gradient, place(scale)))
    if back.wants(2) or back.wants(3):
        total = write.sum(back.gradient, axes)
        back.give(2, total)
        back.give(3, back.op("Neg", back.op("Mul", total, scale)))
    if back.wants(1) or back.wants(4):
        rest = back.op("Sub", back.x(), place(back.x(3)))
        slope = back.op("Div", write.sum(back.op("Mul", back.gradient, rest), axes), root)
        back.give(1, slope)
        share = back.op("Div", back.x(1), back.op("Mul", root, root))
        back.give(4, back.times(back.op("Mul", slope, share), -0.5))


@gradient("InstanceNormalization")
def _instance_normalization_back(back: Backward) -> None:
    """Each channel of a sample is normalised, then scaled and shifted."""
    rank = back.rank()
    _affine_norm_back(back, list(range(2, rank)), list(range(1, rank - 1)), [0, *range(2, rank)])


def _affine_norm_back(back: Backward, axes: Sequence[int], added: Sequence[int], summed: Sequence[int]) -> None:
    """Normalises over ``axes``; scale and bias get axes ``added`` of size one, and their gradients are sums over
    ``summed``."""
    write = back.write
    unit, scale = _normalised(back, back.x(), axes, centred=True)
    if back.wants(0):
        outer = back.op("Mul", back.gradient, write.unsqueeze(back.x(1), added))
        back.give(0, _norm_back(back, unit, scale, outer, axes, centred=True))
    if back.wants(1):
        back.give(1, write.sum(back.op("Mul", back.gradient, unit), summed))
    if back.wants(2):
        back.give(2, write.sum(back.gradient, summed))


@gradient("GroupNormalization")
def _group_normalization_back(back: Backward) -> None:
    """Groups of channels of a sample are normalised; scale and bias are those of channels, or before opset 21 of
    groups."""
    write, rank, groups = back.write, back.rank(), int(back.attr("num_groups"))
    split = write.ints(0, groups, -1)
    per_group = back.shape(1) == (groups,) and back.graph.opset < 21
    unit, scale = _normalised(back, back.op("Reshape", back.x(), split), [2], centred=True)
    place = [1, 2] if per_group else list(range(1, rank - 1))

    def wide(name: str) -> str:
        """Tensor ``name`` in the shape of X, or as (N, g, rest) where parameters are those of groups."""
        return back.op("Reshape", name, split) if per_group else name

    outer = wide(back.gradient)
    if back.wants(0):
        scaled = back.op("Mul", outer, write.unsqueeze(back.x(1), [1] if per_group else place))
        scaled = back.op("Reshape", scaled, split)
        back.give(0, write.shaped_like(_norm_back(back, unit, scale, scaled, [2], centred=True), back.x()))
    summed = [0, 2] if per_group else [0, *range(2, rank)]
    if back.wants(1):
        plain = unit if per_group else write.shaped_like(unit, back.x())
        back.give(1, write.sum(back.op("Mul", outer, plain), summed))
    if back.wants(2):
        back.give(2, write.sum(outer, summed))


@gradient("LayerNormalization", *RMS)
def _layer_normalization_back(back: Backward) -> None:
    """The trailing axes are normalised, then scaled and shifted; without the mean in one of `RMS`."""
    if min(back.gradients) > 0:
        raise Refusal("has no gradient from its mean or deviation")
    shape, centred = back.shape(), back.node.op == "LayerNormalization"
    axes = list(range(int(back.attr("axis", -1)) % len(shape), len(shape)))
    unit, scale = _normalised(back, back.x(), axes, centred)
    if back.wants(0):
        outer = back.op("Mul", back.gradient, back.x(1))
        back.give(0, _norm_back(back, unit, scale, outer, axes, centred))
    if back.wants(1):
        back.give_broadcast(1, back.op("Mul", back.gradient, unit))
    if back.wants(2):
        back.give_broadcast(2, back.gradient)


@gradient("MeanVarianceNormalization")
def _mean_variance_back(back: Backward) -> None:
    axes = [a % back.rank() for a in back.attr("axes", [0, 2, 3])]
    unit, scale = _normalised(back, back.x(), axes, centred=True)
    back.give(0, _norm_back(back, unit, scale, back.gradient, axes, centred=True))


@gradient("LpNormalization")
def _lp_normalization_back(back: Backward) -> None:
    """y = x / n: with p = 2, dX = (dY - y sum(dY y)) / n; with p = 1, dX = (dY - sign(x) sum(dY y)) / n."""
    write, axis = back.write, int(back.attr("axis", -1)) % back.rank()
    x, second = back.x(), int(back.attr("p", 2)) == 2
    size = write.sum(back.op("Mul", x, x) if second else back.op("Abs", x), [axis], keepdims=True)
    norm = back.op("Sqrt", size) if second else size
    along = write.sum(back.op("Mul", back.gradient, back.y()), [axis], keepdims=True)
    inner = back.op("Mul", back.y() if second else back.op("Sign", x), along)
    back.give(0, back.op("Div", back.op("Sub", back.gradient, inner), norm))


@gradient("LRN")
def _local_response_back(back: Backward) -> None:
    """y = x d^-b with d = k + (a / n) times the sum of x^2 over n neighbouring channels:
    dX = dY d^-b - 2 (a / n) b x (the sum of dY x d^(-b - 1) over the channels that x is a neighbour of)."""
    size, x = int(back.attr("size")), back.x()
    alpha, beta = float(back.attr("alpha", 1e-4)), float(back.attr("beta", 0.75))
    first = (size - 1) // 2

    def neighbours(name: str, before: int) -> str:
        """The sum over ``size`` channels, of which ``before`` are lower."""
        lines = back.op("Reshape", name, back.write.ints(0, 1, back.out_shape()[1], -1))
        pads = [before, 0, size - 1 - before, 0]
        means = back.op("AveragePool", lines, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
        return back.write.shaped_like(back.times(means, size), x)

    inner = back.plus(back.times(neighbours(back.mul(x, x), first), alpha / size), float(back.attr("bias", 1.0)))
    scale = back.op("Pow", inner, back.number(-beta))
    direct = back.op("Mul", back.gradient, scale)
    around = neighbours(back.op("Div", back.op("Mul", direct, x), inner), size - 1 - first)
    back.give(0, back.op("Sub", direct, back.times(back.op("Mul", x, around), 2 * alpha * beta / size)))
