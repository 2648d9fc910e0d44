"""Ops that move indices about: reshapes, transposes, concats, splits, slices, gathers."""

from __future__ import annotations

import math

from passes.axes import algebra as terms
from passes.axes.algebra import Term
from passes.axes.registry import rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.linear import place_broadcast
from passes.interface.errors import Refusal


def _moves(op: Op) -> None:
    """The output holds elements of input 0 and nothing else: linear, in data and in a table of constants."""
    op.scales(Scaling.LINEAR)
    op.makes(factors=[0])


@rule("Reshape")
def reshape(op: Op) -> None:
    """Row-major order is kept; the target follows the sizes of the output's axes."""
    shape, out = op.shape(0), op.out_shape()
    if math.prod(shape) != math.prod(out):
        raise Refusal(f"cannot hold {list(shape)} in {list(out)}")
    letters = [op.letter(n) for n in out]
    op.put_out_all(letters)
    terms.unify(terms.product(op.put_all(0)), terms.product(letters), op.why())
    if op.has(1):
        op.resize_input(1, letters)
    else:
        op.resize_attrs("shape", letters)
    _moves(op)


@rule("Flatten")
def flatten(op: Op) -> None:
    """X: a... b... -> Y: (a...) (b...), cut at `axis`."""
    letters = op.put_all(0)
    cut = op.attr("axis", 1)
    cut = cut + len(letters) if cut < 0 else cut
    op.put_out_all([terms.product(letters[:cut]), terms.product(letters[cut:])])
    _moves(op)


@rule("Squeeze", "Unsqueeze")
def squeeze(op: Op) -> None:
    """Axes of size one come and go; the others keep their order."""
    kept = iter([t for t, n in zip(op.put_all(0), op.shape(0), strict=True) if n != 1])
    op.put_out_all([next(kept) if n != 1 else terms.ONE for n in op.out_shape()])
    _moves(op)


@rule("Transpose")
def transpose(op: Op) -> None:
    """Y's axis i is X's axis perm[i]."""
    letters = op.put_all(0)
    op.put_out_all([letters[axis] for axis in op.attr("perm") or reversed(range(len(letters)))])
    _moves(op)


@rule("Concat")
def concat(op: Op) -> None:
    """A h w, B h w -> (A + B) h w."""
    out = op.out_shape()
    joined = op.attr("axis", 1) % len(out)
    letters = [op.letter(n) for n in out]
    parts: list[Term] = []
    for k in range(len(op.node.inputs)):
        part = op.letter(op.shape(k)[joined])
        parts.append(part)
        for axis, letter in enumerate(letters):
            op.put(k, axis, part if axis == joined else letter)
    op.put_out_all([*letters[:joined], terms.total(parts), *letters[joined + 1 :]])
    constants = [k for k in range(len(op.node.inputs)) if op.is_constant(k)]
    op.scales(Scaling.LINEAR, offsets=constants)
    op.makes(factors=constants)


@rule("Split")
def split(op: Op) -> None:
    """(A + B) h w -> A h w, B h w; the sizes follow."""
    shape = op.shape(0)
    cut = op.attr("axis", 0) % len(shape)
    letters = [op.letter(n) for n in shape]
    parts = [op.letter(op.out_shape(k)[cut]) for k in range(len(op.node.outputs))]
    for axis, letter in enumerate(letters):
        op.put(0, axis, terms.total(parts) if axis == cut else letter)
    for k, part in enumerate(parts):
        op.put_out_all([*letters[:cut], part, *letters[cut + 1 :]], k)
    if op.graph.opset < 13:
        op.resize_attrs("split", parts)
    else:
        op.resize_input(1, parts)
    _moves(op)


@rule("Slice")
def slice_(op: Op) -> None:
    """before + kept + after -> kept on each sliced axis; starts and ends follow.

    With a step s: (kept s) -> kept, where s divides the axis; any other axis sliced with a step freezes, and so does
    one that is dynamic or whose bounds vary.
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
            outer, phase = op.letter(out[axis]), terms.atom(step, op.why("takes every so-manyth of it"))
            op.put(0, axis, terms.product([outer, phase]))
            op.put_out(axis, outer)
            continue
        why = _why_not_sliced(op, axis, known, step)
        if why is not None:
            op.put(0, axis, terms.atom(n, op.why(why)))
            op.put_out(axis, terms.atom(out[axis], op.why(why)))
            continue
        before, kept, after = (op.letter(m) for m in (start, out[axis], n - start - out[axis]))
        op.put(0, axis, terms.total([before, kept, after]))
        op.put_out(axis, kept)
        op.drop(before)
        op.drop(after)
        entries[0][i], entries[1][i] = before, terms.total([before, kept])
        followed = True
    if followed:
        for k, name, own in ((1, "starts", entries[0]), (2, "ends", entries[1])):
            if op.has(k):
                op.resize_input(k, own)
            else:
                op.resize_attrs(name, [e for e in own if e is not None])
    _moves(op)


def _why_not_sliced(op: Op, axis: int, known: bool, step: int) -> str | None:
    """Why nothing may be removed from an axis that a Slice takes a part of; nothing if it may."""
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
    _moves(op)


@rule("GatherElements")
def gather_elements(op: Op) -> None:
    """data: a... n b..., indices: a... i b... -> Y: a... i b...; both lists of positions freeze."""
    shape, indices = op.shape(0), op.shape(1)
    picked = op.attr("axis", 0) % len(shape)
    for axis, (n, m) in enumerate(zip(shape, indices, strict=True)):
        letter = op.letter(m)
        op.put(1, axis, letter)
        op.put_out(axis, letter)
        op.put(0, axis, letter if n == m and axis != picked else terms.atom(n, op.why("picks indices from it")))
        if n != m or axis == picked:
            op.freeze(letter, "indexes with it")
    _moves(op)


@rule("Tile")
def tile(op: Op) -> None:
    """X: n... , repeats r... -> Y: (r n)...; the copies stay as many."""
    for axis, (n, r) in enumerate(zip(op.shape(0), op.entries(1), strict=True)):
        letter = op.letter(n)
        op.put(0, axis, letter)
        copies = r if r is not None else op.out_shape()[axis] // n
        op.put_out(axis, terms.product([terms.atom(copies, op.why("repeats it")), letter]))
    _moves(op)


@rule("DepthToSpace")
def depth_to_space(op: Op) -> None:
    """CRD: N (C a b) h w -> N C (h a) (w b); DCR: N (a b C) h w -> N C (h a) (w b)."""
    n = op.attr("blocksize")
    order = "C a b" if op.attr("mode", "DCR") == "CRD" else "a b C"
    _blocks(op, op.pattern(f"N ({order}) h w -> N C (h a) (w b)", a=n, b=n))


@rule("SpaceToDepth")
def space_to_depth(op: Op) -> None:
    """N C (h a) (w b) -> N (a b C) h w."""
    n = op.attr("blocksize")
    _blocks(op, op.pattern("N C (h a) (w b) -> N (a b C) h w", a=n, b=n))


def _blocks(op: Op, letters: dict[str, Term]) -> None:
    for name in "abhw":
        op.freeze(letters[name], "rearranges blocks of it")
    _moves(op)


@rule("Shape", "Size")
def shape_of(op: Op) -> None:
    """Reads sizes only: the axes stay free, and what is computed from them is rewritten where it is used."""
    op.drop(terms.product(op.put_all(0)))


@rule("Constant")
def constant(op: Op) -> None:
    """A value made by an attribute: cannot be cut here (`normalise` turns it into an initializer)."""
    sparse = any(a.HasField("sparse_tensor") for a in op.graph.model.graph.node[op.node.index].attribute)
    reason = op.why("is stored sparse" if sparse else "is not an initializer")
    op.put_out_all([terms.atom(n, reason) for n in op.out_shape()])


@rule("ConstantOfShape")
def constant_of_shape(op: Op) -> None:
    """Its shape input follows the output's axes."""
    letters = [op.letter(n) for n in op.out_shape()]
    op.put_out_all(letters)
    op.resize_input(0, letters)
    op.scales(Scaling.LINEAR)


@rule("Expand")
def expand(op: Op) -> None:
    """Broadcasts input 0; the target shape follows the output's axes."""
    letters = [op.letter(n) for n in op.out_shape()]
    place_broadcast(op, 0, letters)
    op.put_out_all(letters)
    op.resize_input(1, letters)
    _moves(op)
