"""Rules of normalisations, softmax and quantisation."""

from __future__ import annotations

import numpy as np

from passes.axes.algebra import product
from passes.axes.op_facts import ABSENT, ChannelAffine, Moves, OpFacts
from passes.axes.registry import facts, rule
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


facts("InstanceNormalization", "GroupNormalization", known=ABSENT)


@rule("LayerNormalization", "RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN")
def layer_normalization(op: Op) -> None:
    """Normalises over trailing (or given) axes. These are frozen, the others pass."""
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
    for axis in axes:
        op.freeze(letters[axis], "normalises over it")


facts("LayerNormalization", "RMSNormalization", known=OpFacts(broadcasts=True))
facts("LpNormalization", "MeanVarianceNormalization", "LRN", known=ABSENT)


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(op: Op) -> None:
    """The axis it sums over is frozen; before opset 13 that is every axis from `axis` on."""
    letters = same_axes(op)
    legacy = op.graph.opset < 13
    axis = op.attr("axis", 1 if legacy else -1) % len(letters)
    for letter in letters[axis:] if legacy else [letters[axis]]:
        op.freeze(letter, "normalises over it")
    if op.node.op == "Hardmax":
        op.jumps()


facts("Softmax", known=OpFacts(range=(0.0, 1.0)))
facts("Hardmax", known=OpFacts(decides=True))
facts("LogSoftmax", known=ABSENT)


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(op: Op) -> None:
    """X, scale, zero point -> Y. A per-channel scale is on `axis`. A scale of the channel would change the grid."""
    letters = same_axes(op)
    if op.attr("block_size", 0):
        raise Refusal("quantises in blocks: merge first, then quantise")
    for k in (1, 2):
        if op.has(k) and op.shape(k) and op.shape(k) != (1,):
            op.put(k, 0, letters[op.attr("axis", 1) % len(letters)])


facts("QuantizeLinear", known=OpFacts(moves=Moves.QUANTISED, decides=True))
facts("DequantizeLinear", known=OpFacts(moves=Moves.QUANTISED))
