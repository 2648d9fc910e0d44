"""The budget spread over groups, against exhaustive search on small instances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.allocation.knapsack import KnapsackItem, solve_knapsack
from passes.allocation.loss_curves import hull
from passes.axes.algebra import Atom
from passes.cost.footprint import Footprint


@st.composite
def lanes(draw, convex=False):
    """One group: its widths and a loss that falls to nothing."""
    size = draw(st.integers(2, 6))
    drops = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    drops = sorted(drops, reverse=True) if convex else drops
    loss = np.array([sum(drops[k:]) for k in range(size + 1)], float)
    widths = range(1, size + 1) if convex else sorted(draw(st.sets(st.integers(1, size - 1), min_size=1)) | {size})
    return KnapsackItem(Atom(size), tuple(widths), loss)


@st.composite
def problems(draw):
    """(lanes, footprint, goal): products of up to three groups that may share them, as layers in a row do."""
    found = draw(st.lists(lanes(), min_size=1, max_size=4))
    atoms = [lane.atom for lane in found]
    products = draw(st.lists(st.lists(st.sampled_from(atoms), min_size=1, max_size=3), min_size=1, max_size=6))
    products += [[atom] for atom in atoms]
    footprint = Footprint(products)
    return found, footprint, draw(st.integers(0, footprint.total + 1))


def loss_of(found, widths):
    return sum(lane.loss[widths[lane.atom]] for lane in found)


def all_ways(found):
    for widths in itertools.product(*(lane.widths for lane in found)):
        yield dict(zip((lane.atom for lane in found), widths, strict=True))


@settings(deadline=None, max_examples=60)
@given(problems())
def test_it_keeps_to_the_goal_wherever_that_is_possible(problem):
    found, footprint, goal = problem
    widths = solve_knapsack(found, footprint, goal, {})
    assert all(widths[lane.atom] in lane.widths for lane in found)
    narrowest = {lane.atom: lane.widths[0] for lane in found}
    if footprint.at(narrowest) <= goal:
        assert footprint.at(widths) <= goal
    else:
        assert widths == narrowest


@settings(deadline=None, max_examples=60)
@given(problems())
def test_no_room_is_left_for_a_wider_group(problem):
    found, footprint, goal = problem
    widths = solve_knapsack(found, footprint, goal, {})
    for lane in found:
        wider = next((w for w in lane.widths if w > widths[lane.atom]), None)
        assert wider is None or footprint.at({**widths, lane.atom: wider}) > goal


@settings(deadline=None, max_examples=60)
@given(problems())
def test_all_stay_whole_where_the_goal_allows_it(problem):
    found, footprint, _ = problem
    assert solve_knapsack(found, footprint, footprint.total, {}) == {lane.atom: lane.widths[-1] for lane in found}


@settings(deadline=None, max_examples=60)
@given(st.lists(lanes(convex=True), min_size=1, max_size=3), st.data())
def test_where_every_channel_costs_alike_it_is_the_best(found, data):
    footprint = Footprint([[lane.atom] for lane in found])
    goal = data.draw(st.integers(len(found), footprint.total))
    widths = solve_knapsack(found, footprint, goal, {})
    best = min(loss_of(found, way) for way in all_ways(found) if footprint.at(way) <= goal)
    assert loss_of(found, widths) == best


@settings(deadline=None, max_examples=60)
@given(st.lists(lanes(), min_size=1, max_size=3), st.data())
def test_it_is_a_step_away_from_the_best_at_most(found, data):
    """Before its last step the cost was above the goal and the loss least for that (Everett, 1963)."""
    prices = data.draw(st.lists(st.integers(1, 5), min_size=len(found), max_size=len(found)))
    pairs = zip(found, prices, strict=True)
    footprint = Footprint([[lane.atom, Atom(price)] for lane, price in pairs])
    goal = data.draw(st.integers(0, footprint.total))
    costs = [loss_of(found, way) for way in all_ways(found) if footprint.at(way) <= goal]
    step = max(
        lane.loss[a] - lane.loss[b] for lane in found for a, b in itertools.pairwise(hull(lane.widths, lane.loss))
    )
    if costs:
        assert loss_of(found, solve_knapsack(found, footprint, goal, {})) <= min(costs) + step


def test_neighbours_that_shrink_make_channels_cheaper():
    """Once ``a`` has gone, the channels of ``b`` beside it save less: those of ``c``, dearer at first, are next."""
    a, b, c = (Atom(8) for _ in range(3))
    footprint = Footprint([[a, b], [c]])
    found = [
        KnapsackItem(a, (1, 8), np.array([0.0] * 8 + [0])),
        KnapsackItem(b, (4, 8), np.array([8.0] * 8 + [0])),
        KnapsackItem(c, (4, 8), np.array([7.0] * 8 + [0])),
    ]
    assert solve_knapsack(found, footprint, 12, {}) == {a: 1, b: 8, c: 4}
    assert solve_knapsack(found, footprint, 8, {}) == {a: 1, b: 4, c: 4}


def test_other_groups_stay_as_they_are_fixed():
    a, b, other = Atom(6), Atom(4), Atom(10)
    footprint = Footprint([[a, other], [b, other]])
    found = [KnapsackItem(g, tuple(range(1, g.size + 1)), np.arange(g.size, -1.0, -1)) for g in (a, b)]
    widths = solve_knapsack(found, footprint, 9, {other: 3})
    assert widths[other] == 3 and widths[a] + widths[b] == 3


def test_a_group_that_costs_nothing_stays_whole():
    a, costless = Atom(4), Atom(4)
    found = [KnapsackItem(g, (1, 2, 3, 4), np.arange(4, -1.0, -1)) for g in (a, costless)]
    assert solve_knapsack(found, Footprint([[a]]), 2, {}) == {a: 2, costless: 4}
    assert solve_knapsack(found, Footprint([[a]]), 0, {}) == {a: 1, costless: 4}
    assert solve_knapsack([], Footprint([[a]]), 0, {}) == {}


@pytest.mark.parametrize("goal", [0, 1, 7, 8])
def test_a_group_of_one_width(goal):
    a = Atom(8)
    assert solve_knapsack([KnapsackItem(a, (8,), np.arange(8, -1.0, -1))], Footprint([[a]]), goal, {}) == {a: 8}


def test_a_group_that_is_not_to_be_touched_goes_last():
    a, b = Atom(4), Atom(4)
    found = [
        KnapsackItem(a, (1, 2, 3, 4), np.array([1e9] * 4 + [0])),
        KnapsackItem(b, (1, 2, 3, 4), np.arange(4, -1.0, -1)),
    ]
    assert solve_knapsack(found, Footprint([[a], [b]]), 5, {}) == {a: 4, b: 1}
