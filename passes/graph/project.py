"""What happens to an array when indices of an atom go: selection, mixing and unfolding along a composite axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from passes.graph import terms
from passes.graph.terms import Atom, Product, Term

Array = NDArray[Any]
Indices = NDArray[np.intp]


class Mixing(Protocol):
    """A matrix of C x K, dense or sparse."""

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's and SciPy's name
        """The transpose."""


def kept_indices(term: Term, keep: Mapping[Atom, Indices]) -> Indices:
    """Positions along an axis of type ``term`` that stay when each atom keeps the given indices, ascending."""
    term = terms.resolve(term)
    if isinstance(term, Atom):
        return keep[term] if term in keep else np.arange(term.size)
    if isinstance(term, Product):
        kept = np.zeros(1, np.intp)
        for factor in term.factors:
            kept = (kept[:, None] * terms.size(factor) + kept_indices(factor, keep)[None, :]).ravel()
        return kept
    start, pieces = 0, []
    for part in term.parts:
        pieces.append(start + kept_indices(part, keep))
        start += terms.size(part)
    return np.concatenate(pieces)


def kept_size(term: Term, keep: Mapping[Atom, Indices]) -> int:
    """Size of an axis of type ``term`` when each atom keeps the given indices."""
    term = terms.resolve(term)
    if isinstance(term, Atom):
        return len(keep[term]) if term in keep else term.size
    if isinstance(term, Product):
        return int(np.prod([kept_size(f, keep) for f in term.factors], dtype=np.int64))
    return sum(kept_size(p, keep) for p in term.parts)


def mix(array: Array, axis: int, term: Term, atom: Atom, mixing: Mixing) -> Array:
    """Contract every occurrence of ``atom`` along ``axis`` with ``mixing`` (C x K): y[k] = sum over c of x[c] Z[c, k].

    ``term`` is the type of the axis; other atoms in it are left alone.
    """
    term = terms.resolve(term)
    if isinstance(term, Atom):
        if term is not atom:
            return array
        moved = np.moveaxis(array, axis, 0)
        flat = mixing.T @ moved.reshape(moved.shape[0], -1)
        return np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis)
    if isinstance(term, Product):
        inner = [terms.size(f) for f in term.factors]
        spread = array.reshape(*array.shape[:axis], *inner, *array.shape[axis + 1 :])
        for i, factor in enumerate(term.factors):
            spread = mix(spread, axis + i, factor, atom, mixing)
        return spread.reshape(*array.shape[:axis], -1, *array.shape[axis + 1 :])
    bounds = np.cumsum([terms.size(p) for p in term.parts])[:-1]
    pieces = np.split(array, bounds, axis)
    return np.concatenate(
        [mix(piece, axis, part, atom, mixing) for piece, part in zip(pieces, term.parts, strict=True)], axis
    )


def unfold(array: Array, axis: int, term: Term, atom: Atom) -> Array:
    """All that ``array`` holds for each index of ``atom`` along ``axis``: an array of (C, D)."""
    found = [p.reshape(p.shape[0], -1) for p in _occurrences(array, axis, term, atom)]
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def _occurrences(array: Array, axis: int, term: Term, atom: Atom) -> list[Array]:
    term = terms.resolve(term)
    if isinstance(term, Atom):
        return [np.moveaxis(array, axis, 0)] if term is atom else []
    if isinstance(term, Product):
        inner = [terms.size(f) for f in term.factors]
        spread = array.reshape(*array.shape[:axis], *inner, *array.shape[axis + 1 :])
        return [o for i, f in enumerate(term.factors) for o in _occurrences(spread, axis + i, f, atom)]
    bounds = np.cumsum([terms.size(p) for p in term.parts])[:-1]
    pieces = np.split(array, bounds, axis)
    return [o for piece, part in zip(pieces, term.parts, strict=True) for o in _occurrences(piece, axis, part, atom)]
