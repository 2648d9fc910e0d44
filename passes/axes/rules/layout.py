"""Rules of ops that move values without changing them: reshapes, transposes, concats, splits, copies."""

from __future__ import annotations

import math
from dataclasses import replace

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, Joins, Moves, OpFacts
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.linear import place_broadcast
from passes.interface.errors import Refusal

CARRIED = OpFacts(convex_hull=True, keeps_sign=True)
"""The facts of an op whose outputs hold values of the inputs."""


def holds_input(op: Op) -> None:
    """The output holds only elements of input 0. It is linear, in data and in a table of constants."""
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
    algebra.unify(algebra.product(op.put_all(0)), algebra.product(letters), op.why())
    if op.has(1):
        op.resize_input(1, letters)
    else:
        op.resize_attrs("shape", letters)
    holds_input(op)


facts("Flatten", known=replace(CARRIED, moves=Moves.RESHAPED))
facts("Reshape", "Squeeze", "Unsqueeze", known=replace(CARRIED, moves=Moves.RESHAPED, sizing=(1,)))


@rule("Flatten")
def flatten(op: Op) -> None:
    """X: a... b... -> Y: (a...) (b...), cut at `axis`."""
    letters = op.put_all(0)
    cut = op.attr("axis", 1)
    cut = cut + len(letters) if cut < 0 else cut
    op.put_out_all([algebra.product(letters[:cut]), algebra.product(letters[cut:])])
    holds_input(op)


@rule("Squeeze", "Unsqueeze")
def squeeze(op: Op) -> None:
    """Axes of size one are added or removed. The others keep their order."""
    kept = iter([t for t, n in zip(op.put_all(0), op.shape(0), strict=True) if n != 1])
    op.put_out_all([next(kept) if n != 1 else algebra.ONE for n in op.out_shape()])
    holds_input(op)


@rule("Transpose")
def transpose(op: Op) -> None:
    """Y's axis i is X's axis perm[i]."""
    letters = op.put_all(0)
    op.put_out_all([letters[axis] for axis in op.attr("perm") or reversed(range(len(letters)))])
    holds_input(op)


facts("Transpose", known=replace(CARRIED, moves=Moves.PERMUTED))


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
    op.put_out_all([*letters[:joined], algebra.total(parts), *letters[joined + 1 :]])
    constants = [k for k in range(len(op.node.inputs)) if op.is_constant(k)]
    op.scales(Scaling.LINEAR, offsets=constants)
    op.makes(factors=constants)


facts("Concat", known=replace(CARRIED, moves=Moves.JOINED, joins=Joins.CONCATENATION))


@rule("Split")
def split(op: Op) -> None:
    """(A + B) h w -> A h w, B h w; the sizes follow."""
    shape = op.shape(0)
    cut = op.attr("axis", 0) % len(shape)
    letters = [op.letter(n) for n in shape]
    parts = [op.letter(op.out_shape(k)[cut]) for k in range(len(op.node.outputs))]
    for axis, letter in enumerate(letters):
        op.put(0, axis, algebra.total(parts) if axis == cut else letter)
    for k, part in enumerate(parts):
        op.put_out_all([*letters[:cut], part, *letters[cut + 1 :]], k)
    if op.graph.opset < 13:
        op.resize_attrs("split", parts)
    else:
        op.resize_input(1, parts)
    holds_input(op)


facts("Split", known=replace(CARRIED, moves=Moves.PICKED, sizing=(1,)))


@rule("Tile")
def tile(op: Op) -> None:
    """X: n... , repeats r... -> Y: (r n)... The number of copies does not change."""
    given = op.entries(1)
    copies = [
        op.out_shape()[axis] // n if r is None else r
        for axis, (n, r) in enumerate(zip(op.shape(0), given, strict=True))
    ]
    for axis, (n, r) in enumerate(zip(op.shape(0), copies, strict=True)):
        letter = op.letter(n)
        op.put(0, axis, letter)
        op.put_out(axis, algebra.product([algebra.atom(r, op.why("repeats it")), letter]))
    if None in given:
        op.resize_input(1, copies)
    holds_input(op)


facts("Tile", known=OpFacts(moves=Moves.REPEATED, sizing=(1,)))


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
    holds_input(op)


facts("DepthToSpace", "SpaceToDepth", known=OpFacts(moves=Moves.PERMUTED))


@rule("Shape", "Size")
def shape_of(op: Op) -> None:
    """Reads sizes only: the axes can shrink, and values computed from the sizes are rewritten where they are used."""
    op.drop(algebra.product(op.put_all(0)))


facts("Shape", "Size", "Constant", known=ABSENT)
facts("ConstantOfShape", known=OpFacts(sizing=(0,)))


@rule("Constant")
def constant(op: Op) -> None:
    """A value from an attribute. It cannot be cut here (`normalise` turns it into an initializer)."""
    sparse = any(a.HasField("sparse_tensor") for a in op.graph.model.graph.node[op.node.index].attribute)
    reason = op.why("is stored sparse" if sparse else "is not an initializer")
    op.put_out_all([algebra.atom(n, reason) for n in op.out_shape()])


@rule("ConstantOfShape")
def constant_of_shape(op: Op) -> None:
    """Its shape input follows the output's axes."""
    letters = [op.letter(n) for n in op.out_shape()]
    op.put_out_all(letters)
    op.resize_input(0, letters)
    op.scales(Scaling.LINEAR)


@rule("Expand")
def expand(op: Op) -> None:
    """Broadcasts input 0. The target shape follows the output's axes."""
    letters = [op.letter(n) for n in op.out_shape()]
    place_broadcast(op, 0, letters)
    op.put_out_all(letters)
    op.resize_input(1, letters)
    holds_input(op)


facts("Expand", known=replace(CARRIED, moves=Moves.REPEATED, sizing=(1,)))


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape_back(back: Backward) -> None:
    """dX is dY in the shape of X."""
    back.give(0, back.write.shaped_like(back.gradient, back.x()))


@gradient("Transpose")
def _transpose_back(back: Backward) -> None:
    """The inverse permutation."""
    perm = back.attr("perm") or [*reversed(range(back.rank()))]
    back.give(0, back.write.transpose(back.gradient, [list(perm).index(axis) for axis in range(len(perm))]))


@gradient("Concat")
def _concat_back(back: Backward) -> None:
    """Each operand's part of dY."""
    axis = int(back.attr("axis", 1)) % len(back.out_shape())
    sizes = [back.dims(k)[axis] for k in range(len(back.node.inputs))]
    for k in back.asked:
        before, size = sizes[:k], sizes[k]
        if size is not None and None not in before:
            start = sum(n for n in before if n is not None)
            part = back.write.slice(back.gradient, [axis], [start], [start + size])
        else:
            start_at = back.write.ints(0)
            for other in range(k):
                start_at = back.op("Add", start_at, back.write.sizes(back.x(other), [axis]))
            end_at = back.op("Add", start_at, back.write.sizes(back.x(k), [axis]))
            part = back.write.slice_to(back.gradient, axis, start_at, end_at)
        back.give(k, part)


@gradient("Split")
def _split_back(back: Backward) -> None:
    """The gradients of all parts, zero where a part has none, joined again."""
    parts = [back.gradients.get(k) or back.zeros_like(back.y(k)) for k in range(len(back.node.outputs))]
    back.give(0, back.op("Concat", *parts, axis=int(back.attr("axis", 0))))


@gradient("Tile")
def _tile_back(back: Backward) -> None:
    """The sum over all copies."""
    write, rank = back.write, back.rank()
    pairs = [write.unsqueeze(sizes, [1]) for sizes in (back.x(1), write.shape(back.x()))]
    target = back.op("Reshape", back.op("Concat", *pairs, axis=1), write.ints(-1))  # r0 n0 r1 n1 ...
    back.give(0, write.sum(back.op("Reshape", back.gradient, target), range(0, 2 * rank, 2)))


@gradient("DepthToSpace")
def _depth_to_space_back(back: Backward) -> None:
    """SpaceToDepth, which puts the place in a block before the channel; with mode CRD it is behind."""
    n, write = int(back.attr("blocksize")), back.write
    found = back.op("SpaceToDepth", back.gradient, blocksize=n)
    if back.attr("mode", "DCR") == "CRD":
        split = back.op("Reshape", found, write.ints(0, n * n, back.out_shape()[1], -1))
        found = write.shaped_like(write.transpose(split, [0, 2, 1, 3]), back.x())
    back.give(0, found)


@gradient("SpaceToDepth")
def _space_to_depth_back(back: Backward) -> None:
    """DepthToSpace."""
    back.give(0, back.op("DepthToSpace", back.gradient, blocksize=int(back.attr("blocksize"))))


@gradient("Expand")
def _expand_back(back: Backward) -> None:
    """The sum over all copies."""
    back.give_broadcast(0, back.gradient)


no_gradient("Shape", "Size", "ConstantOfShape", why="gives no real numbers that depend on its input's")
no_gradient("Constant", why="has no input")
