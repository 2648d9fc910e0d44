"""The type of an axis: atoms, products and sums, and their unification.

An *atom* is an index set of known size. The axis of a tensor is a term over atoms:

- ``Product(g, i)``: a row-major composite, as Reshape, Flatten and grouped Conv make it.
- ``Sum(a, b)``: a concatenation, as Concat makes it and Split or Slice divide it.

Two axes that an op ties are *unified*. Atom with atom is a union, atom with term is a binding, and composite terms are
refined until they align. Terms that cannot be aligned are frozen with a reason, never guessed. Atoms of size one do not
exist: an axis of size one is ``ONE``, the empty product, and nothing can be removed from it. The size of an atom may
vary with the model's dynamic dims (`passes.shapes.sizes`). Aligned terms then agree at every assignment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from passes.interface.reason import Reason
from passes.shapes.sizes import Size
from passes.shapes.tuning import SHAPES

RESHAPE = Reason("operator", "", "", "a reshape")
"""The default name of what ties two terms, where no node is named."""


class Atom:
    """An index set (a union-find node). ``link``: the term that it was found equal to. ``reason``: why it is frozen."""

    __slots__ = ("link", "reason", "size")

    def __init__(self, size: int, reason: Reason | None = None) -> None:
        self.size = size
        self.link: Term | None = None
        self.reason = reason

    def __repr__(self) -> str:
        return f"a{self.size}@{id(self) & 0xFFFF:04x}{'!' if self.reason else ''}"


@dataclass(frozen=True, slots=True)
class Product:
    """Row-major composite of its factors, outermost first."""

    factors: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Concatenation of its parts."""

    parts: tuple[Term, ...]


Term = Atom | Product | Sum
ONE = Product(())


def atom(size: int, reason: Reason | None = None) -> Term:
    """A fresh atom, or ``ONE`` for a size of one."""
    return ONE if size == 1 else Atom(size, reason)


def product(factors: Iterable[Term]) -> Term:
    """Product in normal form: no nested products, no factor ``ONE``, a single factor stands for itself."""
    flat: list[Term] = []
    for factor in factors:
        flat.extend(factor.factors if isinstance(factor, Product) else (factor,))
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def total(parts: Iterable[Term]) -> Term:
    """Sum in normal form: no nested sums, no empty parts, a single part stands for itself."""
    flat: list[Term] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Sum) else (part,) if size(part) else ())
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def size(term: Term) -> int:
    """Number of indices of ``term``."""
    if isinstance(term, Atom):
        return term.size
    if isinstance(term, Product):
        return math.prod(size(f) for f in term.factors)
    return sum(size(p) for p in term.parts)


def resolve(term: Term) -> Term:
    """``term`` in normal form over unbound atoms."""
    if isinstance(term, Atom):
        chain: list[Atom] = []
        end: Term = term
        while isinstance(end, Atom) and end.link is not None:  # a loop: chains outgrow the recursion limit
            chain.append(end)
            end = end.link
        if not isinstance(end, Atom):
            end = resolve(end)
        for visited in chain:
            visited.link = end
        return end
    if isinstance(term, Product):
        return product([resolve(f) for f in term.factors])
    return total([resolve(p) for p in term.parts])


def atoms(term: Term) -> Iterator[Atom]:
    """Unbound atoms of ``term``, left to right, repeated as often as they occur."""
    term = resolve(term)
    stack: list[Term] = [term]
    while stack:
        top = stack.pop()
        if isinstance(top, Atom):
            yield top
        else:
            stack.extend(reversed(top.factors if isinstance(top, Product) else top.parts))


def freeze(term: Term, reason: Reason) -> None:
    """Forbid the removal of any index of ``term``. The first reason given is kept."""
    for a in atoms(term):
        if a.reason is None:
            a.reason = reason


def unify(left: Term, right: Term, by: Reason = RESHAPE) -> None:
    """Unify two terms of equal size. Atoms are refined where factors or parts do not align.

    ``by``: names what ties them, for the reason where they cannot be unified.
    """
    left, right = resolve(left), resolve(right)
    if left is right or left == right:
        return
    if size(left) != size(right):
        _freeze_both(left, right, by.saying(f"ties axes of {size(left)} and {size(right)}"))
    elif size(left) == 0:
        _freeze_both(left, right, by.saying("has no elements here"))
    elif isinstance(left, Atom):
        _bind(left, right)
    elif isinstance(right, Atom):
        _bind(right, left)
    elif isinstance(left, Product) and isinstance(right, Product):
        _unify_products(left, right, by)
    elif isinstance(left, Sum) and isinstance(right, Sum):
        _unify_sums(left.parts, right.parts, by)
    elif isinstance(left, Sum) and isinstance(right, Product):
        _unify_sum_with_product(left, right, by)
    elif isinstance(left, Product) and isinstance(right, Sum):
        _unify_sum_with_product(right, left, by)


def _freeze_both(left: Term, right: Term, reason: Reason) -> None:
    freeze(left, reason)
    freeze(right, reason)


def _bind(a: Atom, term: Term) -> None:
    if a.reason is not None:
        freeze(term, a.reason)
    a.link = term  # sizes are equal and no factor or part is trivial, so `a` cannot occur inside `term`


def _unify_products(left: Product, right: Product, by: Reason) -> None:
    """Align factors from the innermost out, splitting the larger of two that differ."""
    outer, inner = list(left.factors), list(right.factors)
    while outer and inner:
        a, b = outer.pop(), inner.pop()
        if size(a) < size(b):
            outer, inner, a, b = inner, outer, b, a
        quotient = size(a) // size(b)
        if quotient * size(b) != size(a):
            outer, inner = _unify_outermost([*outer, a], [*inner, b], by)
            for term in (*outer, *inner):
                freeze(term, by.saying(f"cuts {size(a)} across {size(b)}"))
            return
        rest = atom(quotient)
        unify(a, product([rest, b]), by)
        if quotient != 1:
            outer.append(resolve(rest))
        outer, inner = _flat_factors(outer), _flat_factors(inner)


def _unify_outermost(left: list[Term], right: list[Term], by: Reason) -> tuple[list[Term], list[Term]]:
    """Align the outermost factors of equal size. Returns the factors inside them."""
    while left and right and size(left[0]) == size(right[0]):
        unify(left[0], right[0], by)
        left, right = left[1:], right[1:]
    return left, right


def _flat_factors(factors: Sequence[Term]) -> list[Term]:
    """Resolve factors whose atoms an alignment step has just split."""
    flat = product([resolve(f) for f in factors])
    return list(flat.factors) if isinstance(flat, Product) else [flat]


def _unify_sums(left: Sequence[Term], right: Sequence[Term], by: Reason) -> None:
    """Align parts from the left, splitting the larger of two that differ."""
    one, two = list(reversed(left)), list(reversed(right))
    while one and two:
        a, b = _pop_part(one), _pop_part(two)
        if size(a) < size(b):
            one, two, a, b = two, one, b, a
        if size(a) == size(b):
            unify(a, b, by)
            continue
        excess = size(a) - size(b)
        if isinstance(excess, Size) and min(excess.at) <= 0:
            for term in (a, b, *one, *two):
                freeze(term, by.saying(f"cuts {size(a)} across {size(b)}"))
            return
        rest = atom(excess)
        unify(a, total([b, rest]), by)
        one.append(rest)


def _pop_part(parts: list[Term]) -> Term:
    """The next part that is not itself a sum; an earlier alignment may have split it."""
    part = resolve(parts.pop())
    while isinstance(part, Sum):
        parts.extend(reversed(part.parts))
        part = parts.pop()
    return part


def _unify_sum_with_product(left: Sum, right: Product, by: Reason) -> None:
    """Unify a product with a sum. An outer sum distributes over the product; else the product is a sum of copies of its
    inner factors."""
    outer, inner = right.factors[0], product(right.factors[1:])
    period = size(inner)
    if all(size(part) % period == 0 for part in left.parts):
        outers = [atom(size(part) // period) for part in left.parts]
        unify(outer, total(outers), by)
        for part, outer_part in zip(left.parts, outers, strict=True):
            unify(part, product([outer_part, inner]), by)
    elif not isinstance(size(outer), Size) and size(outer) <= SHAPES.expanded_copies:
        freeze(outer, by.saying("takes copies of other channels for concatenated ones"))
        _unify_sums(left.parts, [inner] * size(outer), by)
    else:
        _freeze_both(left, right, by.saying(f"cuts {size(right)} across copies of {period}"))
