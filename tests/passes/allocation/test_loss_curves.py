"""Loss as a function of width: interpolates measurements, never rises, is 0 at full width; its lower convex hull."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.allocation.loss_curves import hull, predicted_loss
from passes.settings.tuning import TUNING

LIMITS = TUNING.allocation
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=24).map(lambda s: np.array(sorted(s, reverse=True)))


@st.composite
def curves(draw):
    """(widths, loss): some of the widths that a group can have, with a loss of which differences are exact."""
    loss = draw(st.lists(st.integers(0, 9), min_size=2, max_size=12).map(lambda s: sorted(s, reverse=True)))
    last = len(loss) - 1
    widths = draw(st.sets(st.integers(1, last), max_size=8)) | {last}
    return sorted(widths), np.array(loss, float)


@settings(deadline=None, max_examples=60)
@given(curves())
def test_corners_lie_below_every_line_between_others(case):
    widths, loss = case

    def below(b):
        lines = itertools.product([w for w in widths if w < b], [w for w in widths if w > b])
        return all(loss[b] * (c - a) < loss[a] * (c - b) + loss[c] * (b - a) for a, c in lines)

    assert hull(widths, loss) == [w for w in widths if below(w)]


def test_corners():
    loss = np.array([9.0, 8, 3, 2, 1, 0])
    assert hull([1, 2, 3, 4, 5], loss) == [1, 2, 5], "what lies on a line is no corner"
    assert hull([5], loss) == [5]
    assert hull([1, 5], loss) == [1, 5]


@settings(deadline=None, max_examples=60)
@given(lost=SHARES, data=st.data())
def test_it_never_rises_and_ends_at_nothing(lost, data):
    widths = st.integers(1, len(lost) - 2) if len(lost) > 2 else st.nothing()
    value = st.floats(0, 1e3) | st.just(math.inf)
    measured = data.draw(st.dictionaries(widths, value, max_size=3) if len(lost) > 2 else st.just({}))
    loss = predicted_loss(lost, measured)
    assert loss.shape == lost.shape and np.isfinite(loss).all()
    assert (np.diff(loss) <= 0).all() and loss[-1] == 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_it_goes_through_what_was_measured(data):
    size = data.draw(st.integers(4, 24))
    lost = np.linspace(1, 0, size + 1) ** data.draw(st.sampled_from([0.5, 1, 3]))
    widths = sorted(data.draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=3)))
    values = sorted(data.draw(st.lists(st.floats(1e-6, 10), min_size=len(widths), max_size=len(widths))), reverse=True)
    loss = predicted_loss(lost, dict(zip(widths, values, strict=True)))
    np.testing.assert_allclose(loss[widths], values, rtol=1e-9)


LOST = np.array([1.0, 0.5, 0.25, 0.125, 0.0625, 0.0])


def test_without_measurements_it_is_what_the_readers_lose():
    np.testing.assert_array_equal(predicted_loss(LOST, {}), LOST)
    np.testing.assert_array_equal(predicted_loss(np.array([1.0, 0.5, 0.6, 1e-4]), {}), [1, 0.5, 0.5, 0])


def test_one_measurement_scales_it():
    np.testing.assert_allclose(predicted_loss(LOST, {2: 0.05}), LOST * 0.2)


def test_two_measurements_give_a_power_of_it():
    np.testing.assert_allclose(predicted_loss(LOST, {1: 0.16, 3: 0.01})[:5], 0.64 * LOST[:5] ** 2 * [1, 1, 1, 1, 2])


def test_beyond_the_measurements_the_power_has_limits():
    """It is the last two points' own, but not below 1 nor above the steepest."""
    for measured, power in (
        ({2: 0.1, 1: 0.1 * 2**5}, LIMITS.steepest_power),
        ({2: 0.1, 1: 0.1 * 2**0.5}, 1.0),
        ({2: 0.1, 1: 0.4}, 2),
    ):
        loss = predicted_loss(LOST, measured)
        assert loss[0] == pytest.approx(loss[1] * 2**power)


def test_widths_at_which_readers_lose_alike():
    """The greater of what was measured holds, whichever width shows it."""
    lost = np.array([1.0, 0.5, 0.5, 0.5, 0.0])
    assert predicted_loss(lost, {1: 0.3, 2: 0.2, 3: 0.1}).tolist() == pytest.approx([0.6, 0.3, 0.3, 0.3, 0])
    assert predicted_loss(lost, {1: 0.1, 3: 0.3})[3] == pytest.approx(0.3)


def test_a_loss_that_rises_with_the_width_counts_for_the_narrower_too():
    loss = predicted_loss(LOST, {1: 0.1, 3: 0.2})
    assert loss[3] == pytest.approx(0.2) and loss[1] == pytest.approx(0.2)


def test_what_is_not_missed_at_all():
    loss = predicted_loss(LOST, {2: 0.0})
    assert loss[2] == pytest.approx(LIMITS.least_loss) and loss[-1] == 0 and loss[0] < 1e-8


def test_outputs_that_are_lost_altogether():
    loss = predicted_loss(LOST, {1: math.inf, 2: math.inf, 3: 0.1})
    assert np.isfinite(loss).all() and loss[1] == loss[2] > 1e8 and loss[3] == pytest.approx(0.1)
    assert hull([1, 2, 3, 4, 5], predicted_loss(LOST, {1: math.inf, 3: math.inf}))
