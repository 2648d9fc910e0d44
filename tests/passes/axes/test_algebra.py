"""Unification of axes, and what it means for arrays: everything is compared with an axis spelled out index by index."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import block_diag

from passes.axes import algebra
from passes.axes.algebra import ONE, Atom, Product, Sum, atoms, freeze, product, resolve, size, total, unify
from passes.axes.index_maps import kept_indices, kept_size, mix, unfold, values_along_axis
from passes.axes.scaling_matrix import LowRankUpdate
from passes.interface.reason import Reason
from passes.shapes.sizes import size_of
from passes.shapes.tuning import SHAPES

FROZEN = Reason("plan", "", "for a test")
FIRST, SECOND, THIRD = (Reason("plan", "", f"the {which}") for which in ("first", "second", "third"))


def spelled(term):
    """For each position along the axis the (atom, index) pairs that stand there."""
    term = resolve(term)
    if isinstance(term, Atom):
        return [[(term, i)] for i in range(term.size)]
    if isinstance(term, Sum):
        return [entry for part in term.parts for entry in spelled(part)]
    found = [[]]
    for factor in term.factors:
        found = [outer + inner for outer in found for inner in spelled(factor)]
    return found


def matrix(term, a, z):
    """What mixing ``a`` with ``z`` does to the whole axis."""
    term = resolve(term)
    if isinstance(term, Atom):
        return z if term is a else np.eye(term.size)
    if isinstance(term, Sum):
        return block_diag(*(matrix(part, a, z) for part in term.parts))
    return reduce(np.kron, [matrix(factor, a, z) for factor in term.factors], np.eye(1))


def test_normal_forms():
    a, b, c = Atom(2), Atom(3), Atom(4)
    assert product([a, ONE, product([b, c])]) == Product((a, b, c))
    assert product([a]) is a and product([]) == ONE == algebra.atom(1)
    assert total([a, algebra.atom(0), total([b, c])]) == Sum((a, b, c)) and total([a]) is a
    assert size(total([product([a, b]), ONE, c])) == 11


def test_atoms_unite():
    a, b = Atom(4), Atom(4)
    unify(a, b)
    assert resolve(a) is resolve(b)


@pytest.mark.parametrize("frozen_first", [True, False])
@pytest.mark.parametrize("swap", [True, False])
def test_a_binding_freezes_both_ways(frozen_first, swap):
    a, inner, outer = Atom(6), Atom(2), Atom(3)
    if frozen_first:
        freeze(a, FROZEN)
    unify(*((product([outer, inner]), a) if swap else (a, product([outer, inner]))))
    if not frozen_first:
        freeze(a, FROZEN)
    assert inner.reason == outer.reason == FROZEN


def test_freezing_a_factor_freezes_that_factor():
    a, inner, outer = Atom(6), Atom(2), Atom(3)
    freeze(inner, FROZEN)
    unify(a, product([outer, inner]))
    assert resolve(a) == Product((outer, inner)) and outer.reason is None


def test_the_first_reason_stays():
    a, b = Atom(4, FIRST), Atom(4, SECOND)
    freeze(a, THIRD)
    unify(a, b)
    assert resolve(a).reason in (FIRST, SECOND) and {x.reason for x in atoms(b)} == {resolve(a).reason}


def test_products_split_the_larger_factor():
    a, b, c, d = Atom(8), Atom(3), Atom(2), Atom(12)
    unify(product([a, b]), product([c, d]))  # 8 3 = 2 12
    outer, rest = resolve(a).factors
    assert outer is c and rest.size == 4 and resolve(d) == Product((rest, b))


def test_products_that_do_not_align_freeze_with_the_reason():
    a, b, c, d = Atom(4), Atom(6), Atom(6), Atom(4)
    unify(product([a, b]), product([c, d]))
    assert {str(x.reason) for x in (a, b, c, d)} == {"a reshape cuts 6 across 4"}


def test_outer_factors_align_where_inner_ones_do_not():
    """Heads stay apart where a reshape turns (queries, keys) into (keys, queries), as a relative shift does."""
    batch, heads, a, b = Atom(size_of((2, 3))), Atom(3), Atom(4), Atom(6)
    others = Atom(size_of((2, 3))), Atom(3), Atom(6), Atom(4)
    unify(product([batch, heads, a, b]), product(others))
    assert resolve(heads) is resolve(others[1]) and resolve(batch) is resolve(others[0])
    assert resolve(heads).reason is None is resolve(batch).reason
    assert {str(x.reason) for x in (a, b, *others[2:])} == {"a reshape cuts 6 across 4"}


def test_the_reason_names_what_tied_them():
    a, b, c, d = Atom(4), Atom(6), Atom(6), Atom(4)
    unify(total([product([a, b]), Atom(2)]), total([product([c, d]), Atom(2)]), Reason("operator", "s", "", "Sub"))
    assert {str(x.reason) for x in (a, b, c, d)} == {"s (Sub) cuts 6 across 4"}


def test_sums_split_the_larger_part():
    a, b, c, d = Atom(5), Atom(3), Atom(2), Atom(6)
    unify(total([a, b]), total([c, d]))  # 5 + 3 = 2 + 6
    first, rest = resolve(a).parts
    assert first is c and rest.size == 3 and resolve(d) == Sum((rest, b))


def test_an_outer_sum_distributes_over_a_product():
    a, b, outer, inner = Atom(4), Atom(6), Atom(5), Atom(2)
    unify(total([a, b]), product([outer, inner]))
    first, second = resolve(outer).parts
    assert (first.size, second.size) == (2, 3) and resolve(a) == Product((first, inner))
    assert not any(x.reason for x in atoms(a))


def test_copies_freeze_the_outer_factor_only():
    a, b, outer, inner = Atom(3), Atom(9), Atom(2), Atom(6)
    unify(product([outer, inner]), total([a, b]))
    assert str(outer.reason) == "a reshape takes copies of other channels for concatenated ones"
    assert [(x.size, x.reason) for x in atoms(inner)] == [(3, None), (3, None)]
    assert size(b) == 9 and list(atoms(b)) == [resolve(b).parts[0], *atoms(inner)]


def test_too_many_copies_freeze():
    outer = Atom(SHAPES.expanded_copies + 2)
    left, right = total([Atom(1 + 3), Atom(6 * outer.size - 4)]), product([outer, Atom(6)])
    unify(left, right, Reason("operator", "c", "", "Add"))
    assert {str(x.reason) for x in (*atoms(left), *atoms(right))} == {"c (Add) cuts 1548 across copies of 6"}


def test_other_sizes_freeze():
    a, b = Atom(4), Atom(5)
    unify(a, b, Reason("operator", "c", "", "Add"))
    assert str(a.reason) == str(b.reason) == "c (Add) ties axes of 4 and 5"


def test_a_long_chain_resolves():
    chain = [Atom(7) for _ in range(10_000)]
    for one, other in zip(chain, chain[1:], strict=False):
        one.link = other
    assert resolve(chain[0]) is chain[-1] and chain[5000].link is chain[-1]
    chain = [Atom(7) for _ in range(10_000)]
    for one, other in zip(chain, chain[1:], strict=False):
        unify(one, other)
    freeze(chain[0], FROZEN)
    assert resolve(chain[-1]).reason == FROZEN


@st.composite
def axes(draw, n, pool, depth=3):
    """A random term of size ``n``, now and then with an atom of the ``pool`` used before."""
    kind = draw(st.sampled_from("apps" if depth else "a")) if n > 1 else "one"
    factors = [d for d in range(2, n) if n % d == 0]
    if kind == "p" and factors:
        outer = draw(st.sampled_from(factors))
        return product([draw(axes(outer, pool, depth - 1)), draw(axes(n // outer, pool, depth - 1))])
    if kind == "s":
        first = draw(st.integers(1, n - 1))
        return total([draw(axes(first, pool, depth - 1)), draw(axes(n - first, pool, depth - 1))])
    known = [a for a in pool if a.size == n]
    found = draw(st.sampled_from(known)) if known and draw(st.booleans()) else algebra.atom(n)
    pool.extend([found] if isinstance(found, Atom) else [])
    return found


def keeps(draw, found, frozen=False):
    """Random indices to keep of the atoms that are not frozen."""
    chosen = {}
    for a in dict.fromkeys(found):
        if frozen or a.reason is None:
            kept = draw(st.sets(st.integers(0, a.size - 1), min_size=1))
            chosen[a] = np.array(sorted(kept))
    return chosen


@given(st.data())
def test_unified_axes_lose_the_same_indices(data):
    """Whatever is free afterwards can go, and both axes then keep the same positions."""
    pool = []
    n = data.draw(st.sampled_from([1, 2, 4, 6, 8, 12, 16, 24]))
    left, right = data.draw(axes(n, pool)), data.draw(axes(n, pool))
    unify(left, right)
    assert size(resolve(left)) == size(resolve(right)) == size(left) == n
    keep = keeps(data.draw, [*atoms(left), *atoms(right)])
    np.testing.assert_array_equal(kept_indices(left, keep), kept_indices(right, keep))
    assert kept_size(left, keep) == kept_size(right, keep) == len(kept_indices(left, keep))


def test_channels_behind_a_dynamic_part_stand_where_they_do_at_the_first_size():
    """A Concat along an axis of which one part has another length at each assignment."""
    channels = Atom(4)
    kept = kept_indices(Sum((Atom(size_of((2, 3))), channels)), {channels: np.array([1, 3])})
    np.testing.assert_array_equal(kept, [0, 1, 3, 5])


@given(st.data())
def test_arrays_follow_the_axis(data):
    """Kept positions, mixing, unfolding and spreading values, each against the axis spelled out."""
    term = data.draw(axes(data.draw(st.sampled_from([2, 4, 6, 8, 12])), []))
    entries = spelled(term)
    found = list(dict.fromkeys(atoms(term)))
    keep = keeps(data.draw, found, frozen=True)
    stay = [p for p, entry in enumerate(entries) if all(i in keep[a] for a, i in entry)]
    np.testing.assert_array_equal(kept_indices(term, keep), stay)
    assert kept_size(term, keep) == len(stay)
    if not found:
        return
    a = data.draw(st.sampled_from(found))
    rng = np.random.default_rng(len(entries))
    values = rng.standard_normal(a.size)
    expected = [sum(values[i] for b, i in entry if b is a) for entry in entries]
    np.testing.assert_allclose(values_along_axis(term, a, values), expected)
    array, z = rng.standard_normal((3, len(entries), 2)), rng.standard_normal((a.size, 3))
    mixed = mix(array, 1, term, a, sparse.csr_array(z))
    np.testing.assert_allclose(mixed, np.einsum("npk,pq->nqk", array, matrix(term, a, z)), atol=1e-12)
    update = LowRankUpdate(sparse.csr_array(z), rng.standard_normal((a.size, 2)), rng.standard_normal((2, 3)))
    single = mix(array.astype(np.float32), 1, term, a, update)
    np.testing.assert_allclose(single, mix(array, 1, term, a, update), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(single, mix(array, 1, term, a, sparse.csr_array(update.toarray())), rtol=1e-4, atol=1e-4)
    rows = unfold(array, 1, term, a)
    for i in range(a.size):
        here = [p for p, entry in enumerate(entries) for b, j in entry if b is a and i == j]
        np.testing.assert_allclose(np.sort(rows[i]), np.sort(array[:, here].ravel()))


def test_mixing_beyond_the_range_of_float16_is_infinite_without_a_warning():
    a = Atom(2)
    weights = np.full((1, 2), 60000, np.float16)
    mixed = mix(weights, 1, a, a, sparse.csr_array(np.ones((2, 1), np.float32)))
    assert mixed.dtype == np.float16 and np.isposinf(mixed).all()
