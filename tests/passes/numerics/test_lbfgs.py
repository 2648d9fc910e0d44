"""L-BFGS: quadratics, a curved valley, and functions that misbehave."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passes.numerics import lbfgs

RNG = np.random.default_rng(0)


def minimise(*given):
    """The point that is found. The value is the one there."""
    point, value = lbfgs.minimise(*given)
    assert value == given[0](point)[0] or not np.isfinite(value)
    return point


def quadratic(conditions, centre):
    return lambda x: (float(conditions @ np.square(x - centre) / 2), conditions * (x - centre))


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    slope = np.zeros_like(x)
    slope[:-1] += -400 * a * (b - a**2) - 2 * (1 - a)
    slope[1:] += 200 * (b - a**2)
    return float((100 * (b - a**2) ** 2 + (1 - a) ** 2).sum()), slope


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_the_minimum_of_a_quadratic_is_found(size, seed):
    rng = np.random.default_rng(seed)
    conditions, centre = rng.uniform(0.1, 10, size), rng.standard_normal(size)
    found = minimise(quadratic(conditions, centre), rng.standard_normal(size), 0.1, 200, 0.0)
    assert np.allclose(found, centre, atol=1e-4)


def test_a_curved_valley():
    assert np.allclose(minimise(rosenbrock, np.full(4, -1.0), 0.1, 300, 1e-10), 1, atol=1e-3)


def test_it_needs_fewer_evaluations_than_steepest_descent():
    conditions, centre, start = np.logspace(-2, 0, 50), np.zeros(50), RNG.standard_normal(50)
    function = quadratic(conditions, centre)
    point = start.copy()
    for _ in range(39):
        point = point - function(point)[1] * 1.9
    assert function(minimise(function, start, 0.1, 40, 0.0))[0] < 0.1 * function(point)[0]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_evaluations_are_bounded(limit):
    calls = []

    def counted(x):
        calls.append(0)
        return rosenbrock(x)

    lbfgs.minimise(counted, np.full(4, -1.0), 100.0, limit, 0.0)
    assert len(calls) <= limit


def test_no_step_follows_where_the_value_is_small_enough():
    start = np.ones(3)
    assert minimise(quadratic(np.ones(3), np.zeros(3)), start, 0.1, 10, 100.0) is start


def test_a_stationary_point_stays():
    assert (minimise(quadratic(np.ones(3), np.zeros(3)), np.zeros(3), 0.1, 10, -1.0) == 0).all()


def test_values_never_rise():
    """A first step that is far too long, into values that are not finite."""

    def walled(x):
        value, slope = quadratic(np.ones(3), np.zeros(3))(x)
        return (np.nan, slope * np.nan) if np.abs(x).max() > 5 else (value, slope)

    start = np.array([1.0, 2.0, 3.0])
    assert walled(minimise(walled, start, 1e3, 12, 0.0))[0] < walled(start)[0]


@pytest.mark.parametrize("answer", [(np.nan, np.ones(3)), (1.0, np.full(3, np.inf))])
def test_a_start_that_is_not_finite_is_returned(answer):
    start = np.ones(3)
    assert minimise(lambda x: answer, start, 0.1, 10, 0.0) is start


def test_the_precision_is_that_of_the_start():
    found = minimise(lambda x: (float(x @ x), 2 * x), np.ones(3, np.float32), 0.1, 10, 0.0)
    assert found.dtype == np.float32
