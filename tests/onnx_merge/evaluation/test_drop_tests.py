"""Statistical tests of a drop: against exhaustive enumeration, known values and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from onnx_merge.evaluation.drop_tests import (
    _log_wealth,
    betting_p,
    change_bound,
    change_p,
    drop_bound,
    drop_p,
    drop_rejected,
)

SMALL = 14
OUTCOMES = [(i, j) for i in range(SMALL + 1) for j in range(SMALL + 1 - i)]


def probabilities(loses, gains):
    """Of every outcome of SMALL samples."""
    counts = np.array([(i, j, SMALL - i - j) for i, j in OUTCOMES])
    return multinomial.pmf(counts, SMALL, [loses, gains, 1 - loses - gains])


def shares(drop):
    """(Share of losses, of gains), where as much or more is lost."""
    return [(q + d, q) for d in (drop, drop + 0.05, drop + 0.2) for q in np.linspace(0, 0.999 * (1 - d) / 2, 30)]


@pytest.mark.parametrize("drop", [0.1, 0.25])
def test_errors_are_as_rare_as_said(drop):
    p = np.array([drop_p(i, j, SMALL, drop) for i, j in OUTCOMES])
    assert np.array_equal([drop_rejected(i, j, SMALL, drop, 0.1) for i, j in OUTCOMES], p <= 0.1)
    changed = np.array([change_p(i, SMALL, drop) for i, _ in OUTCOMES])
    for loses, gains in shares(drop):
        of = probabilities(loses, gains)
        for alpha in (*p[p < 0.5], 0.01, 0.05, 0.1, 0.3):
            assert of[p <= alpha].sum() <= alpha and of[changed <= alpha].sum() <= alpha


@pytest.mark.parametrize(("losses", "gains", "drop"), [(0, 0, 0.2), (0, 2, 0.1), (1, 1, 0.3), (2, 3, 0.3)])
def test_the_worst_case_is_found(losses, gains, drop):
    wealth = _log_wealth(*np.array(OUTCOMES).T, SMALL, drop)
    seen = wealth[OUTCOMES.index((losses, gains))]
    as_strong = wealth >= seen - 1e-9
    worst = max(probabilities(q + drop, q)[as_strong].sum() for q in np.linspace(0, 0.9999 * (1 - drop) / 2, 2000))
    found = drop_p(losses, gains, SMALL, drop)
    assert min(worst, math.exp(-seen)) * (1 - 1e-9) <= found <= 1.003 * worst


@pytest.mark.parametrize("drop", [0.05, 0.3])
def test_no_bet_pays_where_as_much_is_lost(drop):
    losses = [np.repeat([1.0, -1.0, 0.0], (i, j, SMALL - i - j)) for i, j in OUTCOMES]
    wealth = np.array([1 / betting_p(x, drop) for x in losses])  # never below 1 here, so only what is above counts
    assert np.allclose(np.maximum(np.exp(_log_wealth(*np.array(OUTCOMES).T, SMALL, drop)), 1), wealth)
    for loses, gains in shares(drop):
        assert probabilities(loses, gains) @ np.exp(_log_wealth(*np.array(OUTCOMES).T, SMALL, drop)) <= 1 + 1e-9


def test_without_a_change_it_takes_299():
    assert drop_p(0, 0, 298, 0.01) > 0.05 >= drop_p(0, 0, 299, 0.01)
    assert drop_p(0, 0, 299, 0.01) == pytest.approx(0.99**299, rel=3e-3)
    assert change_p(0, 299, 0.01) == pytest.approx(0.99**299)
    assert betting_p(np.zeros(299), 0.01) >= 0.99**299


@settings(deadline=None, max_examples=15)
@given(
    samples=st.integers(5, 200),
    data=st.data(),
    drop=st.floats(0.01, 0.5),
    alpha=st.floats(0.01, 0.2),
)
def test_what_speaks_for_a_loss_makes_it_likelier(samples, data, drop, alpha):
    losses = data.draw(st.integers(0, samples // 3))
    gains = data.draw(st.integers(0, samples // 3))
    p = drop_p(losses, gains, samples, drop)
    assert 0 < p <= 1
    assert drop_p(losses + 1, gains, samples, drop) >= p / 1.003
    assert drop_p(losses, gains + 1, samples, drop) <= p * 1.003
    assert change_p(losses + 1, samples, drop) >= change_p(losses, samples, drop)
    assert drop_rejected(losses, gains, samples, drop, alpha) == (p <= alpha) or p == pytest.approx(alpha, rel=0.003)
    if losses - gains >= drop * samples:
        assert p > 0.3, "as much was lost"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), st.floats(0.01, 0.9), st.floats(0, 0.5))
def test_a_smaller_loss_of_a_sample_speaks_for_less(losses, drop, less):
    x = np.array(losses)
    y = x.copy()
    y[0] -= less
    assert betting_p(y, drop) <= betting_p(x, drop) * (1 + 1e-9)
    assert betting_p(2 * x, 2 * drop, 2.0) == pytest.approx(betting_p(x, drop), rel=1e-6)


def test_a_loss_that_is_larger_than_said():
    with pytest.raises(ValueError, match="more than 1"):
        betting_p(np.array([0.0, 1.5]), 0.1)
    assert betting_p(np.zeros(9), 1.0) == 1


def test_bounds_hold_as_often_as_said():
    rng, drop = np.random.default_rng(0), 0.04
    counts = rng.multinomial(300, [0.07, 0.03, 0.9], size=80)
    bounds = [drop_bound(i, j, 300, 0.1, 0.1, 5) for i, j, _ in counts if drop_rejected(i, j, 300, 0.1, 0.1)]
    assert len(bounds) > 40 and sum(bound < drop for bound in bounds) <= 80 * 0.1
    changes = rng.binomial(300, drop, 400)
    assert np.mean([change_bound(k, 300, 0.1) < drop for k in changes]) <= 0.1 + 2 * math.sqrt(0.09 / 400)
    assert change_bound(0, 299, 0.05) == pytest.approx(1 - 0.05 ** (1 / 299)) and change_bound(5, 5, 0.05) == 1


def test_gains_make_up_for_losses():
    """Where many samples change both ways, the binomial test of the losses alone has nothing to say."""
    assert drop_rejected(100, 90, 4096, 0.01, 0.05) and change_p(100, 4096, 0.01) > 0.99
    assert not drop_rejected(110, 88, 4096, 0.01, 0.05)
    # near what the normal distribution gives
    spread = math.sqrt(4096 * (190 / 4096 - (10 / 4096) ** 2))
    normal = 0.5 * math.erfc((40.96 - 10) / spread / math.sqrt(2))
    assert normal < drop_p(100, 90, 4096, 0.01) < 1.3 * normal
