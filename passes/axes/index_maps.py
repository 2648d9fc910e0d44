"""Applies the removal of an atom's indices to an array: selection, mixing and unfolding along a composite axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from passes.axes import algebra
from passes.axes.algebra import Atom, Product, Term
from passes.axes.scaling_matrix import LowRankUpdate, ScalingMatrix

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[Any]
Indices = NDArray[np.intp]


def kept_indices(term: Term, keep: Mapping[Atom, Indices]) -> Indices:
    """Positions along an axis of type ``term`` that stay when each atom keeps the given indices, ascending."""
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return keep[term] if term in keep else np.arange(term.size)
    if isinstance(term, Product):
        kept = np.zeros(1, np.intp)
        for factor in term.factors:
            kept = (kept[:, None] * algebra.size(factor) + kept_indices(factor, keep)[None, :]).ravel()
        return kept
    start, parts = 0, []
    for part in term.parts:
        parts.append(start + kept_indices(part, keep))
        start += int(algebra.size(part))  # the first of the sizes of a dynamic part
    return np.concatenate(parts)


def kept_size(term: Term, keep: Mapping[Atom, Indices]) -> int:
    """Size of an axis of type ``term`` when each atom keeps the given indices."""
    return axis_size(term, {atom: len(indices) for atom, indices in keep.items()})


def axis_size(term: Term, widths: Mapping[Atom, int]) -> int:
    """Size of an axis of type ``term`` when some atoms have the given sizes and the others their own."""
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return widths.get(term, term.size)
    if isinstance(term, Product):
        return math.prod(axis_size(f, widths) for f in term.factors)
    return sum(axis_size(p, widths) for p in term.parts)


def at_kept(
    array: Array,
    terms: Sequence[Term],
    keep: Mapping[Atom, Indices],
    projected: Mapping[Atom, sparse.csr_array] | None = None,
) -> Array:
    """``array``, whose axes are of the types ``terms``, at the indices that stay. ``projected``: (C, C) matrices that
    are contracted with the indices before."""
    for axis, term in enumerate(terms):
        for atom, matrix in (projected or {}).items():
            if atom in algebra.atoms(term):
                array = mix(array, axis, term, atom, matrix)
        if any(atom in keep for atom in algebra.atoms(term)):
            array = np.take(array, kept_indices(term, keep), axis)
    return array


def at_full_size(kept: Array, terms: Sequence[Term], keep: Mapping[Atom, Indices]) -> Array:
    """An array whose axes are of the types ``terms``: ``kept`` at the indices that stay, zeros elsewhere."""
    whole = np.zeros([algebra.size(term) for term in terms], kept.dtype)
    whole[np.ix_(*(kept_indices(term, keep) for term in terms))] = kept
    return whole


def mix(array: Array, axis: int, term: Term, atom: Atom, mixing: ScalingMatrix) -> Array:
    """Contract every occurrence of ``atom`` along ``axis`` with ``mixing`` (C x K): y[k] = sum over c of x[c] Z[c, k].

    ``term`` is the type of the axis. Other atoms in it are unchanged.
    """
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        if term is not atom:
            return array
        return _mix_axis(array, axis, mixing)
    if isinstance(term, Product):
        inner = [algebra.size(f) for f in term.factors]
        spread = array.reshape((*array.shape[:axis], *inner, *array.shape[axis + 1 :]))
        for i, factor in enumerate(term.factors):
            spread = mix(spread, axis + i, factor, atom, mixing)
        return spread.reshape(*array.shape[:axis], -1, *array.shape[axis + 1 :])
    bounds = np.cumsum([algebra.size(p) for p in term.parts])[:-1]
    parts = np.split(array, bounds, axis)
    return np.concatenate(
        [mix(section, axis, part, atom, mixing) for section, part in zip(parts, term.parts, strict=True)], axis
    )


def _mix_axis(array: Array, axis: int, mixing: ScalingMatrix) -> Array:
    """`mix` where the axis is the atom itself. float64 stays float64; narrower types are mixed in float32."""
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    stack = array.reshape(math.prod(before), array.shape[axis], math.prod(after))
    base = mixing.base if isinstance(mixing, LowRankUpdate) else mixing
    mixed: Array
    if array.dtype == np.float64:
        mixed = np.matmul(base.toarray().T, stack)
    else:
        from passes.numerics.mixing import mix_columns  # here: `inspect` should not wait for the compiler

        stack = stack.astype(np.float32, copy=False)
        mixed = mix_columns(stack, base)
    if isinstance(mixing, LowRankUpdate):
        mixed += mixing.product(stack)
    with np.errstate(over="ignore"):  # beyond float16's range: infinity, which what is measured and checked shows
        mixed = mixed.astype(array.dtype, copy=False)
    return mixed.reshape(*before, -1, *after)


def unfold(array: Array, axis: int, term: Term, atom: Atom) -> Array:
    """All values of ``array`` for each index of ``atom`` along ``axis``: an array of (C, D)."""
    found = [p.reshape(p.shape[0], -1) for p in _occurrences(array, axis, term, atom)]
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def _occurrences(array: Array, axis: int, term: Term, atom: Atom) -> list[Array]:
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return [np.moveaxis(array, axis, 0)] if term is atom else []
    if isinstance(term, Product):
        inner = [algebra.size(f) for f in term.factors]
        spread = array.reshape((*array.shape[:axis], *inner, *array.shape[axis + 1 :]))
        return [o for i, f in enumerate(term.factors) for o in _occurrences(spread, axis + i, f, atom)]
    bounds = np.cumsum([algebra.size(p) for p in term.parts])[:-1]
    parts = np.split(array, bounds, axis)
    return [o for section, part in zip(parts, term.parts, strict=True) for o in _occurrences(section, axis, part, atom)]


def values_along_axis(term: Term, atom: Atom, values: Array) -> Array:
    """``values`` (C,) of the atom's indices at each of their positions along an axis of type ``term``, 0 elsewhere."""
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return values if term is atom else np.zeros(term.size, values.dtype)
    if isinstance(term, Product):
        found = np.zeros(algebra.size(term), values.dtype)
        for i, factor in enumerate(term.factors):
            outer, inner = (
                np.ones(algebra.size(algebra.product(f))) for f in (term.factors[:i], term.factors[i + 1 :])
            )
            found += np.kron(np.kron(outer, values_along_axis(factor, atom, values)), inner)
        return found
    return np.concatenate([values_along_axis(part, atom, values) for part in term.parts])
