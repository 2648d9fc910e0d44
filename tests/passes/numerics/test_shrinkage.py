"""Shrunk covariances: scikit-learn's formula, and their prediction error on fresh samples."""

import numpy as np
import pytest
from covariancekit import covariance, spectrum
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from passes.numerics.shrinkage import (
    independent_samples,
    oas,
    predicted,
    prediction,
    shrunk,
    shrunk_toward,
)
from passes.numerics.subset import choose_columns


def means_of(x):
    return x.mean(axis=1)


def spread(x):
    return float(np.trace(covariance(x.reshape(-1, x.shape[-1]))))


@pytest.mark.parametrize("count", [5, 40, 1000])
def test_it_is_the_formula_of_scikit_learn(count):
    """alpha = mean(S^2), r = (alpha + mu^2) / ((n + 1) (alpha - mu^2 / p))."""
    s = covariance(np.random.default_rng(1).standard_normal((count, 8)) @ spectrum(8))
    mu, alpha = np.trace(s) / 8, np.mean(s**2)
    share = min(1.0, (alpha + mu**2) / ((count + 1) * (alpha - mu**2 / 8)))
    assert oas(s, count) == pytest.approx(share, rel=1e-12)
    np.testing.assert_allclose(shrunk(s, count), (1 - share) * s + share * mu * np.eye(8), rtol=1e-12, atol=1e-15)


def test_scikit_learn_says_the_same():
    covariance_of = pytest.importorskip("sklearn.covariance")
    x = np.random.default_rng(2).standard_normal((30, 12)) @ spectrum(12)
    wanted, share = covariance_of.oas(x)
    assert oas(covariance(x), len(x)) == pytest.approx(share, rel=1e-9)
    np.testing.assert_allclose(shrunk(covariance(x), len(x)), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("factor", "saturated"), [(0.25, False), (2.0, False), (1e6, True)])
def test_the_share_of_the_identity_is_multiplied_by_the_factor(factor, saturated):
    s = covariance(np.random.default_rng(11).standard_normal((40, 6)) @ spectrum(6, decay=2.0).T)
    share = factor * oas(s, 40)
    assert (share > 1) == saturated
    share = min(1.0, share)
    wanted = (1 - share) * s + share * np.trace(s) / 6 * np.eye(6)
    np.testing.assert_allclose(shrunk(s, 40, factor), wanted, rtol=1e-12, atol=1e-15)


def test_what_is_a_multiple_of_the_identity_stays():
    np.testing.assert_allclose(shrunk(3 * np.eye(4), 10), 3 * np.eye(4))
    assert oas(np.eye(4), 10) == 1.0
    assert oas(np.eye(1), 10) == 1.0


def test_nothing_stays_nothing():
    assert not shrunk(np.zeros((3, 3)), 10).any()


def test_what_does_not_stir_is_not_shrunk_to_life():
    s = np.zeros((5, 5))
    s[:3, :3] = covariance(np.random.default_rng(3).standard_normal((9, 3)))
    found = shrunk(s, 9)
    assert not found[3:].any() and not found[:, 3:].any()
    np.testing.assert_allclose(found[:3, :3], shrunk(s[:3, :3], 9))


def test_samples_without_end_are_believed():
    s = covariance(np.random.default_rng(4).standard_normal((100, 6)) @ spectrum(6))
    np.testing.assert_allclose(shrunk(s, np.inf), s)


@pytest.mark.parametrize("count", [64, 256])
def test_what_is_lost_is_what_fresh_samples_lose(count):
    """With fewer samples than channels, where they alone would say that nothing is lost."""
    size, keep, root = 320, 160, spectrum(320, 5)
    rng = np.random.default_rng(count)
    s, true = covariance(rng.standard_normal((count, size)) @ root.T), root @ root.T
    believed = shrunk(s, count)
    chosen, explained = choose_columns(believed, np.eye(size), np.arange(size), keep)
    z = np.linalg.solve(believed[np.ix_(chosen, chosen)], believed[chosen]).T
    left = true - z @ true[chosen] - true[:, chosen] @ z.T + z @ true[np.ix_(chosen, chosen)] @ z.T
    assert (1 - explained[-1]) * np.trace(true) == pytest.approx(np.trace(left), rel=0.15)
    alone = choose_columns(s, np.eye(size), np.arange(size), keep)[1][-1]
    assert 1 - alone < 0.4 * np.trace(left) / np.trace(true)


def test_places_that_are_independent_count_all():
    x = np.random.default_rng(6).standard_normal((400, 10, 30))
    assert independent_samples(spread(x), 4000, means_of(x)) == pytest.approx(4000, rel=0.1)


def test_places_that_are_the_same_count_once():
    x = np.repeat(np.random.default_rng(7).standard_normal((400, 1, 30)), 10, axis=1)
    assert independent_samples(spread(x), 4000, means_of(x)) == pytest.approx(400, rel=0.05)


@pytest.mark.parametrize("alike", [0.1, 0.5])
def test_places_that_are_alike_count_as_kish_has_it(alike):
    """n m / (1 + (m - 1) rho) for m places of intraclass correlation rho."""
    rng = np.random.default_rng(8)
    own, shared = rng.standard_normal((1000, 10, 30)), rng.standard_normal((1000, 1, 30))
    x = np.sqrt(1 - alike) * own + np.sqrt(alike) * shared
    assert independent_samples(spread(x), 10000, means_of(x)) == pytest.approx(10000 / (1 + 9 * alike), rel=0.06)


def test_mirror_images_count_half():
    x = np.random.default_rng(9).standard_normal((200, 1, 30))
    both = np.stack([x, x + 0.01], 1).reshape(400, 1, 30)
    assert independent_samples(spread(both), 400, means_of(both)) == pytest.approx(200, rel=0.02)


SOME = arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 3)), elements=st.integers(-9, 9).map(float))


@given(means=SOME, variance=st.floats(1e-3, 1e3), each=st.integers(1, 20))
def test_they_are_between_half_of_the_samples_and_all_places(means, variance, each):
    count = len(means)
    found = independent_samples(variance, each * count, means)
    assert count / 2 * (1 - 1e-12) <= found <= each * count


APART = np.array([[1.0], [-1.0]] * 4)
"""Neighbours are opposites: they count as independent."""
TWICE = np.array([[1.0], [1.0], [-1.0], [-1.0]] * 2)


@pytest.mark.parametrize(
    ("variance", "means", "expected"),
    [
        (1e-9, APART, 8),  # no fewer than there are samples
        (2.0, APART, 2 * 8 * 7 / 8),
        (1e9, APART, 80),  # no more than there are places
        (1e-9, TWICE, 4),
        (2.0, TWICE, 7),
        (1e9, TWICE, 40),
        (1e9, np.array([[1.0], [1.0], [-2.0], [0.0]]), 80 / (1 + 2 * 1 / 6)),
    ],
)
def test_samples_and_places_bound_them(variance, means, expected):
    assert independent_samples(variance, 80, means) == pytest.approx(expected, rel=1e-12)


def test_one_sample_is_one_and_dead_channels_are_no_number():
    assert independent_samples(1.0, 50, np.ones((1, 3))) == 1.0
    assert independent_samples(0.0, 50, np.zeros((5, 3))) == 50.0


@pytest.mark.parametrize("count", [20, 500])
def test_the_share_of_a_target_has_about_the_least_expected_error(count):
    """Of Gaussian samples, over many draws of them; the trace stays."""
    root, away = spectrum(6), np.diag(np.arange(1.0, 7.0))
    true, rng = root @ root.T, np.random.default_rng(count)
    target = true + 0.1 * away
    target = target * np.trace(true) / np.trace(target)
    draws = [covariance(rng.standard_normal((count, 6)) @ root.T) for _ in range(300)]

    def error(found):
        return np.mean([np.sum((f - true) ** 2) for f in found])

    shares = [error([(1 - r) * s + r * target for s in draws]) for r in np.linspace(0, 1, 21)]
    found = [shrunk_toward(s, count, 7 * target) for s in draws]
    assert error(found) < min(2 * min(shares), 0.7 * shares[0] if count < 100 else np.inf)
    np.testing.assert_allclose([np.trace(f) for f in found], [np.trace(s) for s in draws])


@pytest.mark.parametrize(("factor", "saturated"), [(0.5, False), (1.5, False), (100.0, True)])
def test_the_share_of_a_target_is_the_formula_times_a_factor(factor, saturated):
    """(|S|^2 + tr(S)^2) / (n + 1) over |S - T|^2, at most 1; T has the trace of S."""
    s = covariance(np.random.default_rng(13).standard_normal((30, 6)) @ spectrum(6, decay=2.0).T)
    given = np.diag(np.arange(1.0, 7.0))
    target = given * np.trace(s) / np.trace(given)
    share = factor * (np.sum(s**2) + np.trace(s) ** 2) / 31 / np.sum((s - target) ** 2)
    assert (share > 1) == saturated
    share = min(1.0, share)
    np.testing.assert_allclose(shrunk_toward(s, 30, given, factor), (1 - share) * s + share * target, rtol=1e-12)


def test_a_target_without_variance_says_nothing():
    s = covariance(np.random.default_rng(12).standard_normal((9, 3)))
    assert shrunk_toward(s, 9, np.zeros((3, 3))) is s


def test_kept_channels_predict_themselves_and_others_as_regression_does():
    x = np.random.default_rng(14).standard_normal((50, 6)) @ spectrum(6)
    z = prediction(covariance(x), np.array([0, 2, 5]), 0.0)
    np.testing.assert_array_equal(z[[0, 2, 5]], np.eye(3))
    away = x - x.mean(axis=0)
    wanted = np.linalg.lstsq(away[:, [0, 2, 5]], away, rcond=None)[0].T
    np.testing.assert_allclose(z, wanted, rtol=1e-5, atol=1e-6)


def test_the_ridge_is_a_share_of_each_kept_channels_variance():
    """As least squares with an observation for each kept channel, in which all others are 0."""
    x, keep, ridge = np.random.default_rng(5).standard_normal((40, 12)) * np.arange(1, 13), np.array([0, 2, 3, 7]), 0.3
    away, variances = (x - x.mean(axis=0)) / np.sqrt(len(x)), x.var(axis=0)
    inputs = np.concatenate([away[:, keep], np.diag(np.sqrt(ridge * variances[keep] + 1e-8 * variances.max()))])
    targets = np.concatenate([away, np.zeros((len(keep), 12))])
    wanted = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    wanted[keep] = np.eye(len(keep))
    np.testing.assert_allclose(prediction(covariance(x), keep, ridge), wanted, rtol=1e-9, atol=1e-12)


def test_channels_that_are_equal_share_the_weight_down_to_a_floor():
    """The floor is 1e-8 of the largest variance, here 1: two equal channels predict a third as 1 / (2 + 1)."""
    equal = np.zeros((4, 4))
    equal[:3, :3], equal[3, 3] = 1.0, 1e8
    np.testing.assert_allclose(prediction(equal, np.array([0, 1]), 0.0)[2:], [[1 / 3, 1 / 3], [0, 0]], rtol=1e-12)
    np.testing.assert_array_equal(predicted(np.zeros((3, 3)), np.array([0, 1]), np.array([2]), 0.0), [[0, 0]])


def test_what_rounding_has_made_indefinite_is_solved_all_the_same():
    s = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0], [3.0, 0.0, 1.0]])  # of the kept two, an eigenvalue is -1
    np.testing.assert_allclose(prediction(s, np.array([0, 1]), 0.0)[2], [-1, 2], rtol=1e-6)
