"""Rules of ops that select some of their input's values: slices and gathers."""

from __future__ import annotations

from dataclasses import replace

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.op_facts import Moves, OpFacts
from passes.axes.registry import facts, rule
from passes.axes.rule_context import Op
from passes.axes.rules.layout import CARRIED, holds_input


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
    """data: a... n b..., indices: i... -> Y: a... i... b...; the gathered axis freezes."""
    shape, indices = op.shape(0), op.shape(1)
    axis = op.attr("axis", 0) % len(shape)
    for d, n in enumerate(shape):
        letter = op.letter(n)
        op.put(0, d, letter)
        if d == axis:
            op.freeze(letter, "picks indices from it")
        else:
            op.put_out(d if d < axis else d + len(indices) - 1, letter)
    for d, n in enumerate(indices):
        letter = op.letter(n)
        op.put(1, d, letter)
        op.put_out(axis + d, letter)
        op.freeze(letter, "indexes with it")
    holds_input(op)


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
