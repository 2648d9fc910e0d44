"""Rules of ops that select some of their input's values: slices and gathers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import Moves, OpFacts
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op
from passes.axes.rules.layout import CARRIED, holds_input
from passes.interface.errors import Refusal
from passes.shapes.sizes import Size


@rule("Slice")
def slice_(op: Op) -> None:
    """before + kept + after -> kept on each sliced axis. Starts and ends follow.

    With a step s: (kept s) -> kept, where s divides the axis. Any other axis sliced with a step is frozen. So is an
    axis that is dynamic or whose bounds vary.
    """
    shape, out = op.shape(0), op.out_shape()
    starts, ends = op.entries(1, "starts"), op.entries(2, "ends")
    axes = op.ints(3, "axes") or list(range(len(starts)))
    steps = op.entries(4) or [1] * len(starts)
    first, last = ([0 if n is None else n for n in bounds] for bounds in (starts, ends))
    entries: tuple[list[Term | int | None], list[Term | int | None]] = ([*starts], [*ends])
    sliced: dict[int, int] = {a % len(shape): i for i, a in enumerate(axes)}
    followed = False
    for axis, n in enumerate(shape):
        i = sliced.get(axis)
        known = i is None or None not in (starts[i], ends[i], steps[i])
        if i is None or (known and n == out[axis] and steps[i] == 1):
            letter = op.letter(n)
            op.put(0, axis, letter)
            op.put_out(axis, letter)
            if i is not None and ends[i] == n and op.is_computed(2):  # from the size of another tensor's axis
                entries[1][i], followed = letter, True
            continue
        start, step = min(max(first[i] + n if first[i] < 0 else first[i], 0), n), steps[i] or 1
        if known and step > 1 and n == out[axis] * step and 0 <= first[i] < step and last[i] >= n:
            outer, phase = op.letter(out[axis]), algebra.atom(step, op.why("takes every so-manyth of it"))
            op.put(0, axis, algebra.product([outer, phase]))
            op.put_out(axis, outer)
            continue
        why = _why_not_sliced(op, axis, known, step)
        if why is not None:
            op.put(0, axis, algebra.atom(n, op.why(why)))
            op.put_out(axis, algebra.atom(out[axis], op.why(why)))
            continue
        before, kept, after = (op.letter(m) for m in (start, out[axis], n - start - out[axis]))
        op.put(0, axis, algebra.total([before, kept, after]))
        op.put_out(axis, kept)
        op.drop(before)
        op.drop(after)
        entries[0][i], entries[1][i] = before, algebra.total([before, kept])
        followed = True
    if followed:
        for k, name, own in ((1, "starts", entries[0]), (2, "ends", entries[1])):
            if op.has(k):
                op.resize_input(k, own)
            else:
                op.resize_attrs(name, [e for e in own if e is not None])
    holds_input(op)


facts("Slice", known=replace(CARRIED, moves=Moves.PICKED, sizing=(1, 2, 3, 4)))


def _why_not_sliced(op: Op, axis: int, known: bool, step: int) -> str | None:
    """Why nothing may be removed from an axis of which a Slice takes a part. None if something may."""
    dynamic = op.graph.info.dynamic
    if not known:
        return "takes a part of it whose bounds are computed"
    if step < 0:
        return "reverses it"
    if step != 1:
        return "takes some of it, by a step"
    if {(op.node.inputs[0], axis), (op.node.outputs[0], axis)} & dynamic:
        return "takes a part of it, and it is dynamic"
    return None


@rule("Gather")
def gather(op: Op) -> None:
    """data: a... n b..., indices: i... -> Y: a... i... b...; the gathered axis freezes, except where a constant list
    takes runs of it, or shuffles it."""
    shape, indices = op.shape(0), op.shape(1)
    axis = op.attr("axis", 0) % len(shape)
    listed = _listed(op, axis)
    for d, n in enumerate(shape):
        letter = op.letter(n)
        if d != axis:
            op.put(0, d, letter)
            op.put_out(d if d < axis else d + len(indices) - 1, letter)
        elif listed is None:
            op.put(0, d, letter)
            op.freeze(letter, "picks indices from it")
    for d, n in enumerate(indices):
        letter = op.letter(n)
        op.put(1, d, letter)
        op.freeze(letter, "indexes with it")
        if listed is None:
            op.put_out(axis + d, letter)
    if listed is not None:
        before, after = listed
        op.put(0, axis, before)
        op.put_out(axis, after)
        op.drop(before)
        op.lists(1, axis)
    holds_input(op)


def _listed(op: Op, axis: int) -> tuple[Term, Term] | None:
    """The gathered axis before and after, where a constant list of indices takes runs of it, or shuffles it as a
    transposed reshape does: (g i) -> (i g). None for other lists."""
    size, name = op.shape(0)[axis], op.node.inputs[1]
    if len(op.shape(1)) != 1 or isinstance(size, Size) or name not in op.graph.initializers:
        return None
    if (op.node.inputs[0], axis) in op.graph.info.dynamic or not size:
        return None
    at = op.graph.array(name) % size
    step = int(at[1]) if len(at) == size > 1 else 0
    if step > 1 and size % step == 0 and np.array_equal(at, np.arange(size).reshape(-1, step).T.ravel()):
        outer, inner = op.letter(size // step), op.letter(step)
        return algebra.product([outer, inner]), algebra.product([inner, outer])
    ends = np.flatnonzero(np.diff(at) != 1) + 1
    runs = np.split(at, ends) if len(at) else []
    cuts = sorted({0, size, *(int(run[0]) for run in runs), *(int(run[-1]) + 1 for run in runs)})
    parts = {start: op.letter(end - start) for start, end in pairwise(cuts)}
    taken = [[start for start in parts if run[0] <= start <= run[-1]] for run in runs]
    if all(algebra.size(parts[start]) == 1 for starts in taken for start in starts):
        return None
    return algebra.total(parts.values()), algebra.total(parts[start] for starts in taken for start in starts)


facts("Gather", known=replace(CARRIED, moves=Moves.GATHERED, weights=(0,)))


@rule("GatherElements")
def gather_elements(op: Op) -> None:
    """data: a... n b..., indices: a... i b... -> Y: a... i b...; both lists of positions freeze."""
    shape, indices = op.shape(0), op.shape(1)
    picked = op.attr("axis", 0) % len(shape)
    for axis, (n, m) in enumerate(zip(shape, indices, strict=True)):
        letter = op.letter(m)
        op.put(1, axis, letter)
        op.put_out(axis, letter)
        op.put(0, axis, letter if n == m and axis != picked else algebra.atom(n, op.why("picks indices from it")))
        if n != m or axis == picked:
            op.freeze(letter, "indexes with it")
    holds_input(op)


facts("GatherElements", known=OpFacts(moves=Moves.GATHERED, weights=(0,)))


@gradient("Slice")
def _slice_back(back: Backward) -> None:
    """dY between zeros; with a step, zeros between its values too."""
    rank = back.rank()
    steps = back.ints(4, "steps", "steps") or []
    axes = back.ints(3, "axes", "axes")
    computed = back.has(1) and back.value(1) is None
    starts = [] if computed else back.ints(1, "starts", "starts") or []
    axes = axes or list(range(back.shape(1)[0] if back.has(1) else len(starts)))
    axes = [a % rank for a in axes]
    sizes, lengths = back.dims(), back.out_dims()
    if computed or any(sizes[a] is None or lengths[a] is None for a in axes):
        if any(step != 1 for step in steps):
            raise Refusal("has no gradient where it takes a part by steps of a size that varies")
        given = back.x(1) if back.has(1) else back.write.ints(*starts)
        back.give(0, _between_zeros(back, given, axes))
        return
    before, after, found = [0] * rank, [0] * rank, back.gradient
    for axis, start, step in zip(axes, starts, steps or [1] * len(axes), strict=True):
        n, m = back.shape()[axis], back.out_shape()[axis]
        first = min(max(start + n if start < 0 else start, 0), n - 1)
        if step < 0:
            found = back.write.reversed(found, axis, m)
            first += (m - 1) * step
        if abs(step) > 1:
            found = _stretched(back, found, axis, abs(step), m)
        before[axis], after[axis] = first, n - first - ((m - 1) * abs(step) + 1)
    back.give(0, back.write.pad(found, before, after))


def _between_zeros(back: Backward, starts: str, axes: Sequence[int]) -> str:
    """dY between zeros, along ``axes`` from the computed ``starts`` on, which count from the end where negative."""
    write, rank = back.write, back.rank()
    write.require("Pad with computed widths", 11)
    sizes, lengths = write.sizes(back.x(), axes), write.sizes(back.gradient, axes)
    starts = write.cast(starts, onnx.TensorProto.INT64)
    negative = write.cast(back.op("Less", starts, write.ints(0)), onnx.TensorProto.INT64)
    first = back.op("Add", starts, back.op("Mul", negative, sizes))
    if write.opset >= 12:  # before, Max and Min know no integers
        first = back.op("Min", back.op("Max", first, write.ints(0)), sizes)
    last = back.op("Sub", back.op("Sub", sizes, lengths), first)
    at = write.ints(*(axes.index(d) if d in axes else len(axes) for d in range(rank)))
    ends = [back.op("Gather", back.op("Concat", n, write.ints(0), axis=0), at) for n in (first, last)]
    return back.op("Pad", back.gradient, back.op("Concat", *ends, axis=0))


def _stretched(back: Backward, source: str, axis: int, step: int, size: int) -> str:
    """``step`` - 1 zeros between the ``size`` values of ``axis``."""
    write, rank = back.write, back.rank()
    wide = write.unsqueeze(source, [axis + 1])
    wide = write.pad(wide, [0] * (rank + 1), [step - 1 if d == axis + 1 else 0 for d in range(rank + 1)])
    ends = [write.sizes(source, range(axis)), write.ints(size * step), write.sizes(source, range(axis + 1, rank))]
    used = [ends[0]] * (axis > 0) + [ends[1]] + [ends[2]] * (axis + 1 < rank)
    joined = back.op("Reshape", wide, back.op("Concat", *used, axis=0))
    return write.slice(joined, [axis], [0], [(size - 1) * step + 1])


@gradient("Gather")
def _gather_back(back: Backward) -> None:
    """Each value of dY is added where it was taken from."""
    write, rank, axis = back.write, back.rank(), int(back.attr("axis", 0))
    axis, count, size = axis % rank, len(back.shape(1)), back.dims()[axis % rank]
    indices = back.value(1)
    if indices is not None and size is not None:
        at = np.ravel(indices) % size
        if at.size and (np.diff(at) == 1).all():  # a part of the axis, as it stands there
            part = back.gradient
            if count != 1:
                sizes = [write.sizes(back.x(), [d]) if d != axis else write.ints(at.size) for d in range(rank)]
                part = back.op("Reshape", part, back.op("Concat", *sizes, axis=0))
            after = [size - int(at[-1]) - 1 if d == axis else 0 for d in range(rank)]
            back.give(0, write.pad(part, [int(at[0]) if d == axis else 0 for d in range(rank)], after))
            return
        if count == 1 and sorted(at) == list(range(size)):
            back.give(0, back.op("Gather", back.gradient, write.ints(*np.argsort(at).tolist()), axis=axis))
            return
    front = [*range(axis, axis + count), *range(axis), *range(axis + count, rank - 1 + count)]
    others = [d for d in range(rank) if d != axis]
    moved = write.transpose(back.gradient, front)
    rest = [write.sizes(back.x(), [d]) for d in others]
    rows = back.op("Reshape", moved, back.op("Concat", write.ints(-1), *rest, axis=0))
    added = _added_rows(back, rows, write.sizes(back.x(), [axis]), rest)
    back.give(0, write.transpose(added, [[axis, *others].index(d) for d in range(rank)]))


def _added_rows(back: Backward, rows: str, size: str, rest: Sequence[str]) -> str:
    """(n, rest...): the sum of the ``rows`` of each index. ``size``: n."""
    write = back.write
    flat = back.op("Reshape", back.x(1), write.ints(-1))
    if write.opset >= 16:
        zeros = back.spread(back.number(0), back.op("Concat", size, *rest, axis=0))
        return back.op("ScatterND", zeros, write.unsqueeze(flat, [1]), rows, reduction="add")
    write.require("OneHot", 11)  # older ones refuse negative indices
    hot = back.op("OneHot", flat, size, back.number([0, 1]), axis=0)
    lines = back.op("Reshape", rows, back.op("Concat", write.sizes(rows, [0]), write.ints(-1), axis=0))
    return back.op("Reshape", back.op("MatMul", hot, lines), back.op("Concat", size, *rest, axis=0))


@gradient("GatherElements")
def _gather_elements_back(back: Backward) -> None:
    """Each value of dY is added where it was taken from."""
    back.write.require("ScatterElements that adds", 16)
    given = {"axis": int(back.attr("axis", 0)), "reduction": "add"}
    back.give(0, back.op("ScatterElements", back.zeros_like(back.x()), back.x(1), back.gradient, **given))
