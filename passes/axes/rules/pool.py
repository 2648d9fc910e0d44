"""Rules of pooling, reductions, resampling and padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.op_facts import ABSENT, Moves, OpFacts, Pool, PoolWindow
from passes.axes.registry import facts, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.layout import CARRIED
from passes.axes.rules.linear import pads
from passes.graph.model import Node
from passes.interface.errors import Refusal


@rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pooling(op: Op) -> None:
    """X: N C ... -> Y: N C ...; windows mix the spatial axes."""
    op.pattern("N C ... -> N C ...")
    if len(op.node.outputs) > 1 and op.node.outputs[1]:
        raise Refusal("returns flat indices")
    op.scales(Scaling.LINEAR if "Average" in op.node.op else Scaling.HOMOGENEOUS)


def _without_padding(node: Node) -> bool:
    """Whether a mean excludes the padded zeros."""
    return not (node.attrs.get("count_include_pad", 0) and (pads(node) or node.attrs.get("ceil_mode", 0)))


facts("AveragePool", known=OpFacts(pool=Pool("mean", PoolWindow.KERNEL), hull=_without_padding, keeps_sign=True))
facts("MaxPool", known=replace(CARRIED, pool=Pool("max", PoolWindow.KERNEL), decides=True))
facts("LpPool", known=OpFacts(pool=Pool("norm", PoolWindow.KERNEL)))
facts("GlobalAveragePool", known=replace(CARRIED, pool=Pool("mean", PoolWindow.ALL)))
facts("GlobalMaxPool", known=replace(CARRIED, pool=Pool("max", PoolWindow.ALL)))
facts("GlobalLpPool", known=OpFacts(pool=Pool("norm", PoolWindow.ALL)))


_HOMOGENEOUS_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")


@rule(
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin",
)  # fmt: skip
def reduction(op: Op) -> None:
    """Reduced axes are frozen (or stay as ones with keepdims). The others pass."""
    shape = op.shape(0)
    arg = op.node.op.startswith("Arg")
    axes = [op.attr("axis", 0)] if arg else op.ints(1, "axes")
    if not axes and not op.attr("noop_with_empty_axes", 0):
        axes = list(range(len(shape)))
    reduced = {a % len(shape) for a in axes}
    kept = [algebra.ONE if axis in reduced else letter for axis, letter in enumerate(op.put_all(0))]
    op.put_out_all(kept if op.attr("keepdims", 1) else [t for axis, t in enumerate(kept) if axis not in reduced])
    if op.node.op in ("ReduceMean", "ReduceSum"):
        op.scales(Scaling.LINEAR)
    elif op.node.op in _HOMOGENEOUS_REDUCTIONS:
        op.scales(Scaling.HOMOGENEOUS)


facts("ReduceMean", known=replace(CARRIED, pool=Pool("mean", PoolWindow.AXES), sizing=(1,)))
facts("ReduceMax", known=replace(CARRIED, pool=Pool("max", PoolWindow.AXES), sizing=(1,)))
facts("ReduceMin", known=replace(CARRIED, sizing=(1,)))
facts(
    "ReduceSum", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
    known=OpFacts(sizing=(1,)),
)  # fmt: skip
facts("ArgMax", "ArgMin", known=OpFacts(decides=True))


@rule("CumSum", "TopK", "Trilu")
def ordered(op: Op) -> None:
    """An axis is frozen if the result depends on the order along it. The others pass."""
    kind, shape = op.node.op, op.shape(0)
    letters = [op.letter(n) for n in shape]
    if kind == "Trilu":
        axes = [len(shape) - 2, len(shape) - 1]
    else:
        axes = op.ints(1) if kind == "CumSum" else [op.attr("axis", -1)]
    for a in axes:
        letters[a] = algebra.atom(shape[a], op.why("depends on its order"))
    for axis, letter in enumerate(letters):
        op.put(0, axis, letter)
        for k in range(len(op.node.outputs)):
            size = op.out_shape(k)[axis]
            op.put_out(axis, letter if size == shape[axis] else algebra.atom(size, op.why("depends on its order")), k)
    if kind == "TopK":
        op.jumps()
    else:
        op.scales(Scaling.LINEAR)
        op.makes(factors=[0])


facts("TopK", known=OpFacts(decides=True, sizing=(1,)))
facts("CumSum", "Trilu", known=OpFacts(sizing=(1,)))


@rule("GridSample", "RoiAlign")
def sampling(op: Op) -> None:
    """X: N C ... -> Y: M C ...; the sampling positions are a parameter."""
    op.pattern("N C ..., ... -> M C ..." if op.node.op == "RoiAlign" else "N C ..., N ... -> N C ...")
    op.scales(Scaling.HOMOGENEOUS)
    op.makes(factors=[0])


facts("GridSample", "RoiAlign", known=ABSENT)


@rule("Resize", "Upsample")
def resample(op: Op) -> None:
    """Axes whose size does not change pass. The others are interpolated and frozen. Sizes follow the axes."""
    if (
        op.has(1)
        and op.node.op == "Resize"
        and op.graph.opset > 10
        and op.attr("coordinate_transformation_mode") == ("tf_crop_and_resize")
    ):
        raise Refusal("crops by coordinates")
    out = op.out_shape()
    entries: list[Term | int] = []
    for axis, n in enumerate(op.shape(0)):
        if n == out[axis]:
            letter = op.letter(n)
            op.put(0, axis, letter)
            op.put_out(axis, letter)
            entries.append(letter)
        else:
            op.put(0, axis, algebra.atom(n, op.why("interpolates it")))
            op.put_out(axis, algebra.atom(out[axis], op.why("interpolates it")))
            entries.append(out[axis])
    if op.has(3):
        axes = op.attr("axes") or range(len(entries))
        op.resize_input(3, [entries[axis] for axis in axes])
    op.scales(Scaling.LINEAR)
    op.makes(factors=[0])


facts("Resize", known=OpFacts(sizing=(1, 2, 3)))
facts("Upsample", known=OpFacts(sizing=(1,)))


@rule("Pad")
def pad(op: Op) -> None:
    """Padded axes are frozen, unless constant zeros are appended. The output is then before + X + after, and may
    shrink."""
    shape, out = op.shape(0), op.out_shape()
    borders = op.entries(1, "pads" if op.graph.opset > 1 else "paddings")
    axes = [a % len(shape) for a in op.ints(3)] if op.has(3) else list(range(len(shape)))
    before = dict(zip(axes, borders[: len(axes)], strict=True))
    after = dict(zip(axes, borders[len(axes) :], strict=True))
    fill = op.value(2) if op.has(2) else np.asarray(op.attr("value", 0.0))
    zeros = op.attr("mode", "constant") == "constant" and fill is not None and not np.any(fill)
    sizes: dict[int, tuple[Term | int, Term | int]] = {}
    for axis, n in enumerate(shape):
        low, high = before.get(axis, 0), after.get(axis, 0)
        if low == high == 0:
            letter = op.letter(n)
            op.put(0, axis, letter)
            op.put_out(axis, letter)
        elif zeros and low is not None and high is not None and low >= 0 and high >= 0 and axis == 1:
            letter, first, last = op.letter(n), op.letter(low), op.letter(high)
            op.put(0, axis, letter)
            op.put_out(axis, algebra.total([first, letter, last]))
            sizes[axis] = (first, last)
        else:
            op.put(0, axis, algebra.atom(n, op.why("pads it")))
            op.put_out(axis, algebra.atom(out[axis], op.why("pads it")))
    if sizes:
        entries: list[Term | int | None] = [sizes[a][0] if a in sizes else before[a] for a in axes]
        entries += [sizes[a][1] if a in sizes else after[a] for a in axes]
        if op.has(1):
            op.resize_input(1, entries)
        else:
            op.resize_attrs("pads", [e for e in entries if e is not None])
    op.scales(Scaling.LINEAR if zeros else Scaling.NONE)


facts("Pad", known=OpFacts(moves=Moves.PADDED, sizing=(1, 3)))
