"""Finds the parts that Concat nodes join in one tensor.

A detector's boxes and scores may be outputs of their own, or one output that joins them along an axis, and its levels
along another. What is measured by part does not depend on that. The parts of an axis are the parts of its type
(`passes.axes.algebra`), however many reshapes, transposes and pointwise ops lie between the Concat and the tensor.
Several axes that are joined have all combinations of their parts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from passes.axes import algebra
from passes.axes.algebra import ONE, Atom, Product, Term
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
    sizes, for instance. So are neighbours of size one: coordinates that are stacked one by one. What is joined in front
    of a layer, such as a class token and patches, stays one part.

    ``typing``: with the shapes of a sample; ``sizes``: shape of tensor ``name`` without its first axis, of samples.
    """
    terms = typing.axes.get(name, ())[1:]
    if len(terms) != len(sizes) or not _is_joined(typing, name):
        return [np.zeros(size, np.intp) for size in sizes]
    varying = _sizes_of(typing) if any(_varies(term) for term in terms) else {}
    found = [_parts(algebra.resolve(term), varying)[0] for term in terms]
    return [
        labels if len(labels) == size else np.zeros(size, np.intp) for labels, size in zip(found, sizes, strict=True)
    ]


def _parts(term: Term, sizes: Mapping[Atom, int]) -> tuple[Labels, list[Hashable]]:
    """The part of each index of a resolved ``term``, and a key of each part."""
    if isinstance(term, Atom):
        return np.zeros(sizes.get(term, term.size), np.intp), [term]
    if isinstance(term, Product):
        labels, keys = np.zeros(1, np.intp), list[Hashable]([()])
        for factor in term.factors:
            inner, more = _parts(factor, sizes)
            labels = (labels[:, None] * len(more) + inner).ravel()
            keys = [*product(keys, more)]
        return labels, keys
    index: dict[Hashable, int] = {}
    pieces: list[Labels] = []
    before: Term | None = None
    singles = 0
    for part in term.parts:
        singles += part == ONE and before != ONE
        inner, more = _parts(part, sizes)
        own = [("single", singles)] if part == ONE else more
        pieces.append(np.array([index.setdefault(key, len(index)) for key in own], np.intp)[inner])
        before = part
    return np.concatenate(pieces), [*index]


def _is_joined(typing: Typing, name: str) -> bool:
    """Whether a Concat lies between the last layers that sum with weights and tensor ``name``."""
    graph = typing.graph
    layers = {flow.record.node.index for flow in typing.flows if any(u.role is Role.CONSUMER for u in flow.uses)}
    seen: set[int] = set()
    waiting = [name]
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is None or node.index in seen or node.index in layers or node.outputs[0] in graph.integers:
            continue
        if node.op == "Concat":
            return True
        seen.add(node.index)
        waiting += node.inputs
    return False


def _varies(term: Term) -> bool:
    return any(type(a.size) is not int for a in algebra.atoms(term))


def _sizes_of(typing: Typing) -> dict[Atom, int]:
    """The size of each atom that is an axis by itself somewhere."""
    found: dict[Atom, int] = {}
    for name, terms in typing.axes.items():
        for term, size in zip(map(algebra.resolve, terms), typing.graph.shape(name) or (), strict=False):
            if isinstance(term, Atom):
                found[term] = size
    return found
