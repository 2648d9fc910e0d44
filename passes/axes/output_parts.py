"""Finds the parts that Concat nodes join in one tensor.

A detector's objectness, boxes and classes may be outputs of their own, or one output that joins their channels. What is
measured by part does not depend on that. The parts of an axis are the parts of its type (`passes.axes.algebra`),
however many reshapes, transposes and pointwise ops lie between the Concat and the tensor.

Only axes of channels, which layers make, are divided. Places that are joined, such as the levels of a detector, hold
the same quantities in the same units.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from passes.axes import algebra
from passes.axes.algebra import ONE, Atom, Product, Term, atoms
from passes.axes.inference import Role, Typing

Labels = NDArray[np.intp]


def joined_parts(typing: Typing, name: str, sizes: tuple[int, ...]) -> Labels:
    """The part of each element of a sample, flattened: 0, 1, ... Parameters are those of `parts_by_axis`."""
    found = np.zeros(1, np.intp)
    for labels in parts_by_axis(typing, name, sizes):
        found = (found[:, None] * (int(labels.max(initial=0)) + 1) + labels).ravel()
    return found


def parts_by_axis(typing: Typing, name: str, sizes: tuple[int, ...]) -> list[Labels]:
    """For each axis of a sample the part of each index: 0, 1, ... All zeros where nothing is joined, or no type fits.

    Parts of the same index set are one part: corners that are the sum and the difference of the same centres and
    sizes, for instance. So are neighbours of size one: coordinates that are stacked one by one.

    ``sizes``: shape of tensor ``name`` without its first axis, of samples.
    """
    found = [np.zeros(size, np.intp) for size in sizes]
    terms = [*map(algebra.resolve, typing.axes.get(name, ())[1:])]
    if len(terms) != len(sizes):
        return found
    made = {a for flow in typing.flows for use in flow.uses if use.role is Role.PRODUCER for a in atoms(use.letter)}
    for axis, term in enumerate(terms):
        if made.issuperset(atoms(term)) and algebra.size(term) == sizes[axis]:
            found[axis], _ = _parts(term)
    return found


def index_sets(typing: Typing, name: str, sizes: tuple[int, ...]) -> list[tuple[Labels, ...]]:
    """The indices along each axis of a sample, for each part. Parameters are those of `parts_by_axis`."""
    axes = [
        [np.flatnonzero(labels == part) for part in range(int(labels.max(initial=0)) + 1)]
        for labels in parts_by_axis(typing, name, sizes)
    ]
    return [*product(*axes)]


def _parts(term: Term) -> tuple[Labels, list[Hashable]]:
    """The part of each index of a resolved ``term``, and a key of each part."""
    if isinstance(term, Atom):
        return np.zeros(term.size, np.intp), [term]
    if isinstance(term, Product):
        labels, keys = np.zeros(1, np.intp), list[Hashable]([()])
        for factor in term.factors:
            inner, more = _parts(factor)
            labels = (labels[:, None] * len(more) + inner).ravel()
            keys = [*product(keys, more)]
        return labels, keys
    index: dict[Hashable, int] = {}
    pieces: list[Labels] = []
    before: Term | None = None
    singles = 0
    for part in term.parts:
        singles += part == ONE and before != ONE
        inner, more = _parts(part)
        own = [("single", singles)] if part == ONE else more
        pieces.append(np.array([index.setdefault(key, len(index)) for key in own], np.intp)[inner])
        before = part
    return np.concatenate(pieces), [*index]
