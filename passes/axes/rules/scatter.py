"""Rules of ops that take values from lists of places, or put them there: GatherND, ScatterND, ScatterElements."""

from __future__ import annotations

from dataclasses import replace

from passes.axes.algebra import Term
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import ABSENT, Moves
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.layout import CARRIED, holds_input
from passes.interface.errors import Refusal

INDEXES = "indexes with it"
SCALING = {
    "none": Scaling.LINEAR, "add": Scaling.LINEAR, "max": Scaling.HOMOGENEOUS, "min": Scaling.HOMOGENEOUS,
    "mul": Scaling.NONE,
}  # fmt: skip
"""How a scale on data and updates passes, by what is done where an update meets a value."""


@rule("GatherND")
def gather_nd(op: Op) -> None:
    """data: b... n... c..., indices: b... i... k -> Y: b... i... c...; k indices pick from the k axes n..."""
    shape, indices = op.shape(0), op.shape(1)
    batch, picked = int(op.attr("batch_dims", 0)), _index_length(op)
    listed = _put_indices(op, batch)
    for axis, n in enumerate(shape):
        letter = listed[axis] if axis < batch else op.letter(n)
        op.put(0, axis, letter)
        if batch <= axis < batch + picked:
            op.freeze(letter, "picks indices from it")
        elif axis >= batch:
            op.put_out(axis - batch - picked + len(indices) - 1, letter)
    for axis, letter in enumerate(listed):
        op.put_out(axis, letter)
    holds_input(op)


@rule("ScatterND")
def scatter_nd(op: Op) -> None:
    """data: n... c..., indices: i... k, updates: i... c... -> Y: n... c...; k indices pick from the k axes n..."""
    picked = _index_length(op)
    listed = _put_indices(op)
    for axis, n in enumerate(op.shape(0)):
        letter = op.letter(n)
        op.put(0, axis, letter)
        op.put_out(axis, letter)
        if axis < picked:
            op.freeze(letter, "puts values at indices of it")
        else:
            op.put(2, axis - picked + len(listed), letter)
    for axis, letter in enumerate(listed):
        op.put(2, axis, letter)
    _scales(op)


@rule("ScatterElements")
def scatter_elements(op: Op) -> None:
    """data: a... n b..., indices, updates: a... i b... -> Y: a... n b...; both lists of places freeze."""
    shape, indices = op.shape(0), op.shape(1)
    along = int(op.attr("axis", 0)) % len(shape)
    for axis, (n, m) in enumerate(zip(shape, indices, strict=True)):
        letter, whole = op.letter(n), axis != along and n == m
        listed = letter if whole else op.letter(m)
        for k, term in enumerate((letter, listed, listed)):
            op.put(k, axis, term)
        op.put_out(axis, letter)
        if not whole:
            op.freeze(letter, "puts values at indices of it")
            op.freeze(listed, INDEXES)
    _scales(op)


facts("GatherND", known=replace(CARRIED, moves=Moves.GATHERED, weights=(0,)))
facts("ScatterND", "ScatterElements", known=ABSENT)


def _scales(op: Op) -> None:
    """Data and updates that are constants must have the scale that the others have."""
    op.scales(SCALING[op.attr("reduction", "none")], offsets=[k for k in (0, 2) if op.is_constant(k)])


def _index_length(op: Op) -> int:
    """Length k of an index, the last axis of the indices."""
    if (op.node.inputs[1], len(op.shape(1)) - 1) in op.graph.info.dynamic:
        raise Refusal("has indices of a length that varies")
    return op.shape(1)[-1]


def _put_indices(op: Op, batch: int = 0) -> list[Term]:
    """Letters for the axes of the indices but for the last one, which are frozen from axis ``batch`` on."""
    letters = [op.letter(n) for n in op.shape(1)]
    for axis, letter in enumerate(letters):
        op.put(1, axis, letter)
        if axis >= batch:
            op.freeze(letter, INDEXES)
    return letters[:-1]


# -- gradients ---------------------------------------------------------------------------------------------------------
@gradient("GatherND")
def _gather_nd_back(back: Backward) -> None:
    """Each value of dY is added where it was taken from."""
    if back.attr("batch_dims", 0):
        raise Refusal("has no gradient where it gathers in each sample of a batch")
    back.write.require("ScatterND that adds", 16)
    back.give(0, back.op("ScatterND", back.zeros_like(back.x()), back.x(1), back.gradient, reduction="add"))


@gradient("ScatterND")
def _scatter_nd_back(back: Backward) -> None:
    """Updates get dY from where they were put; data get the rest of it, or all where updates are added."""
    adds = _adds(back)
    if back.wants(2):
        back.write.require("GatherND", 11)
        back.give(2, back.op("GatherND", back.gradient, back.x(1)))
    if back.wants(0):
        nothing = [back.gradient, back.x(1), back.zeros_like(back.x(2))]
        back.give(0, back.gradient if adds else back.op("ScatterND", *nothing))


@gradient("ScatterElements")
def _scatter_elements_back(back: Backward) -> None:
    """Each update gets dY from where it was put; data get the rest of dY, or all where updates are added."""
    adds, axis = _adds(back), int(back.attr("axis", 0))
    if back.wants(2):
        back.give(2, back.op("GatherElements", back.gradient, back.x(1), axis=axis))
    if back.wants(0):
        nothing = [back.gradient, back.x(1), back.zeros_like(back.x(2))]
        back.give(0, back.gradient if adds else back.op("ScatterElements", *nothing, axis=axis))


def _adds(back: Backward) -> bool:
    reduction = back.attr("reduction", "none")
    if reduction not in ("none", "add"):
        raise Refusal(f"has no gradient where it takes the {reduction} of values and updates")
    return bool(reduction == "add")
