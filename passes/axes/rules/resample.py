"""Rules and gradients of resampling and padding."""

from __future__ import annotations

import math

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.gradient_context import Backward
from passes.axes.node_reader import NodeReader
from passes.axes.op_facts import ABSENT, Moves, OpFacts
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.interface.errors import Refusal


@rule("GridSample", "RoiAlign")
def sampling(op: Op) -> None:
    """X: N C ... -> Y: M C ...; the sampling positions are a parameter."""
    op.pattern("N C ..., ... -> M C ..." if op.node.op == "RoiAlign" else "N C ..., N ... -> N C ...")
    op.scales(Scaling.HOMOGENEOUS)
    op.makes(factors=[0])


facts("GridSample", "RoiAlign", known=ABSENT)


@rule("Resize", "Upsample")
def resample(op: Op) -> None:
    """Axes that are scaled by one pass. The others are interpolated and frozen. Sizes follow the axes."""
    if (
        op.has(1)
        and op.node.op == "Resize"
        and op.graph.opset > 10
        and op.attr("coordinate_transformation_mode") == ("tf_crop_and_resize")
    ):
        raise Refusal("crops by coordinates")
    out, scales = op.out_shape(), _scales(op)
    entries: list[Term | int] = []
    for axis, n in enumerate(op.shape(0)):
        if n == out[axis] and scales[axis] == 1:
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


def _scales(op: Op) -> list[float | None]:
    """The factor of each axis, None where it varies. Sizes do not tell it: 8 x 1.1 is rounded to 8."""
    rank = len(op.shape(0))
    place, axes = _factors(op, rank)
    if op.has(3) and op.node.op == "Resize":
        stretched = op.attr("keep_aspect_ratio_policy", "stretch") == "stretch"
        sizes = zip(op.shape(0), op.out_shape(), strict=True)
        return [m / n if stretched and n else None if d in axes else 1.0 for d, (n, m) in enumerate(sizes)]
    found = op.numbers(place) if op.has(place) else [float(scale) for scale in op.attr("scales") or ()]
    if len(found) != len(axes):
        return [None] * rank
    return [found[axes.index(axis)] if axis in axes else 1.0 for axis in range(rank)]


def _factors(reader: NodeReader, rank: int) -> tuple[int, list[int]]:
    """The input that holds the factors, and the axes that they are for."""
    legacy = reader.node.op == "Upsample" or reader.graph.opset < 11
    return 1 if legacy else 2, [axis % rank for axis in reader.attr("axes") or range(rank)]


facts("Resize", known=OpFacts(sizing=(1, 2, 3)))
facts("Upsample", known=OpFacts(sizing=(1,)))


@rule("Pad")
def pad(op: Op) -> None:
    """Padded axes are frozen, unless constant zeros are appended. The output is then before + X + after, and may
    shrink. Zeros and values of X itself (edge, reflect, wrap) have the scale of X; other constants do not."""
    shape, out = op.shape(0), op.out_shape()
    borders = op.entries(1, "pads" if op.graph.opset > 1 else "paddings")
    axes = [a % len(shape) for a in op.ints(3)] if op.has(3) else list(range(len(shape)))
    before = dict(zip(axes, borders[: len(axes)], strict=True))
    after = dict(zip(axes, borders[len(axes) :], strict=True))
    fill = op.value(2) if op.has(2) else np.asarray(op.attr("value", 0.0))
    fills = op.attr("mode", "constant") == "constant"
    zeros = fills and fill is not None and not np.any(fill)
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
    op.scales(Scaling.LINEAR if zeros or not fills else Scaling.NONE)


facts("Pad", known=OpFacts(moves=Moves.PADDED, sizing=(1, 3)))


# -- gradients ---------------------------------------------------------------------------------------------------------
no_gradient("GridSample", "RoiAlign", why="reads computed places, and no rule gives its gradient")


def _applied(back: Backward, source: str, axis: int, matrix: str) -> str:
    """``source`` times ``matrix`` (m, n) along ``axis`` of size m, which then has size n."""
    rank = back.rank()
    order = [*(d for d in range(rank) if d != axis), axis]
    moved = back.op("MatMul", back.write.transpose(source, order), matrix)
    return back.write.transpose(moved, [order.index(d) for d in range(rank)])


@gradient("Resize", "Upsample")
def _resample_back(back: Backward) -> None:
    """It is linear along each axis: dX = dY R along it, where column i of R (m, n) is what the op makes of the i-th
    unit vector. Where nearest values are repeated a whole number of times, dX is the sum over the copies."""
    if back.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Refusal("has no gradient where it crops")
    if back.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refusal("has no gradient where it keeps the ratio of sizes")
    shape, out = back.shape(), back.out_shape()
    changed = [d for d, (n, m) in enumerate(zip(shape, out, strict=True)) if n != m or _scale(back, d) not in (None, 1)]
    times = [_repeats(back, d) for d in changed]
    if None not in times and min(changed, default=2) >= 2:
        kernel = dict(zip(changed, times, strict=True))
        sizes = [kernel.get(d, 1) or 1 for d in range(2, len(shape))]
        means = back.op("AveragePool", back.gradient, kernel_shape=sizes, strides=sizes)
        back.give(0, back.times(means, math.prod(sizes)))
        return
    found = back.gradient
    for axis in changed:
        found = _applied(back, found, axis, _resize_matrix(back, axis))
    back.give(0, found)


def _repeats(back: Backward, axis: int) -> int | None:
    """How often each value of ``axis`` is repeated. None if values are not repeated evenly."""
    if back.attr("mode", "nearest") != "nearest":
        return None
    legacy = back.node.op == "Upsample" or back.graph.opset < 11
    where = "asymmetric" if legacy else back.attr("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if legacy else back.attr("nearest_mode", "round_prefer_floor")
    evenly = {("asymmetric", "floor"), *((m, r) for m in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
              for r in ("round_prefer_floor", "round_prefer_ceil"))}  # fmt: skip
    scale = _scale(back, axis)
    n, m = back.dims()[axis], back.out_dims()[axis]
    if scale is None and n is not None and m is not None and m % n == 0:
        scale = m / n
    whole = scale is not None and scale == int(scale) and scale >= 1
    return int(scale) if whole and scale is not None and (where, rounding) in evenly else None


def _scale(back: Backward, axis: int) -> float | None:
    """The factor that ``axis`` is scaled by. None if its size is given instead."""
    place, axes = _factors(back, back.rank())
    given = back.attr("scales")
    values = back.value(place) if back.has(place) or given is None else np.asarray(given)
    if values is None or not values.size:
        return None
    return float(np.ravel(values)[axes.index(axis)]) if axis in axes else 1.0


def _resize_matrix(back: Backward, axis: int) -> str:
    """(m, n): the node applied to the rows of a unit matrix, transposed."""
    write = back.write
    size = write.sizes(back.x(), [axis])
    square = back.spread(back.number(0), back.op("Concat", size, size, axis=0))
    rows = write.unsqueeze(back.op("EyeLike", square, dtype=back.kind), [0, 1])  # (1, 1, n, n)
    names = ("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias",
             "extrapolation_value")  # fmt: skip
    given = {n: back.attr(n) for n in names if back.attr(n) is not None}
    scale = _scale(back, axis)
    computed = (back.node.op == "Upsample" and scale is None) or (back.has(2) and back.value(2) is None)
    if computed:
        raise Refusal("has no gradient where its scales are computed")
    none = "" if back.graph.opset >= 13 else write.constant(np.zeros(0, np.float32))
    if back.node.op == "Upsample" or back.graph.opset < 11:
        scales = write.constant(np.array([1, 1, 1, scale], np.float32))
        spread = back.op(back.node.op, rows, scales, **given) if back.has(1) else back.op(
            back.node.op, rows, scales=[1.0, 1.0, 1.0, scale], **given)  # fmt: skip
    elif scale is not None:
        spread = back.op("Resize", rows, none, write.constant(np.array([1, 1, 1, scale], np.float32)), **given)
    else:
        target = back.op("Concat", write.ints(1, 1), size, write.sizes(back.y(), [axis]), axis=0)
        spread = back.op("Resize", rows, none, none, target, **given)
    return write.swapped(write.squeeze(spread, [0, 1]), 2)


@gradient("Pad")
def _pad_back(back: Backward) -> None:
    """The part of dY without the borders; where these repeat values of X, they are added to what they repeat."""
    rank, mode = back.rank(), back.attr("mode", "constant")
    if mode == "constant" and back.has(1) and back.value(1) is None:
        none = [""] if back.has(3) else []
        opposite = back.op("Neg", back.x(1))
        back.give(0, back.op("Pad", back.gradient, opposite, *none, *([back.x(3)] if none else [])))
        return
    pads = back.ints(1, "pads" if back.graph.opset > 1 else "paddings", "widths")
    assert pads is not None
    axes = [a % rank for a in back.ints(3, "axes", "axes") or range(rank)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if mode == "constant":
        back.give(0, back.write.pad(back.gradient, [-p for p in before], [-p for p in after]))
        return
    found = back.gradient
    for axis in axes:
        low, high, n = before[axis], after[axis], back.dims()[axis]
        if low == high == 0:
            continue
        if n is None:
            raise Refusal("has no gradient where it repeats borders of a size that varies")
        taken = np.pad(np.arange(n), (max(low, 0), max(high, 0)), mode)
        taken = taken[max(-low, 0) : len(taken) - max(-high, 0)]
        found = _applied(back, found, axis, back.number(np.eye(n)[taken]))
    back.give(0, found)
