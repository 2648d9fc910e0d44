"""Ridge toward a prior, against NumPy's least squares."""

import numpy as np
import pytest

from passes.numerics import ridge
from passes.numerics.ridge import Moments, SampleRows, fit, fit_rows
from passes.numerics.tuning import NUMERICS

OUTPUTS, STRENGTHS = NUMERICS.ridge.outputs, NUMERICS.ridge.strengths
RARE = NUMERICS.ridge.least_moment


def moments(p, y):
    return Moments(float(len(p)), p.sum(0), y.sum(0), p.T @ p, y.T @ p, (y * y).sum(0))


def halves(p, y, kind):
    return tuple(kind(p[i::2], y[i::2]) for i in (0, 1))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    p = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 6)) + 3
    weights = rng.standard_normal((4, 6))
    return p, weights, p @ weights.T + np.array([1.0, -2.0, 0.5, 7.0])


def test_what_is_linear_is_found(data):
    p, weights, y = data
    result = fit(halves(p, y, moments), np.zeros_like(weights))
    np.testing.assert_allclose(result.weights, weights, atol=1e-2)
    np.testing.assert_allclose(p @ result.weights.T + result.intercept, y, atol=1e-2)
    assert result.error < 1e-5


def test_the_error_is_what_is_left(data):
    p, _, y = data
    noisy = y + np.random.default_rng(1).standard_normal(y.shape)
    result = fit(halves(p, noisy, moments), np.zeros((4, 6)))
    rest = noisy - p @ result.weights.T - result.intercept
    np.testing.assert_allclose(result.error, (rest**2).sum() / ((noisy - noisy.mean(0)) ** 2).sum(), rtol=1e-3)


def test_without_an_intercept(data):
    p, weights, _ = data
    result = fit(halves(p, p @ weights.T, moments), np.zeros_like(weights), intercept=False)
    assert not result.intercept.any()
    np.testing.assert_allclose(result.weights, weights, atol=1e-2)


def test_the_prior_stays_where_samples_tell_nothing():
    rng = np.random.default_rng(2)
    p, prior = rng.standard_normal((40, 8)), rng.standard_normal((3, 8))
    assert np.array_equal(fit(halves(p, p @ prior.T, moments), prior).weights, prior)
    unrelated = p @ prior.T + 10 * rng.standard_normal((40, 3))
    change = fit(halves(p, unrelated, moments), prior).weights - prior
    unregularised = np.linalg.lstsq(p - p.mean(0), unrelated - unrelated.mean(0), rcond=None)[0].T - prior
    assert np.linalg.norm(change) < 0.7 * np.linalg.norm(unregularised)


@pytest.mark.parametrize("noise", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("drift", [0.0, 20.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_both_forms_agree(data, noise, drift, intercept):
    """The primal and the dual form solve one problem, also where the halves have different means."""
    p, _, y = data
    few, targets = p[:40].copy(), y[:40] + noise * np.random.default_rng(3).standard_normal((40, 4))
    few[::2] += drift
    few, targets = few.astype(np.float32), targets.astype(np.float32)
    wide = few.astype(np.float64), targets.astype(np.float64)
    one = fit(halves(*wide, moments), np.zeros((4, 6)), intercept)
    two = fit_rows(halves(few, targets, SampleRows), np.zeros((4, 6)), intercept)
    assert one.strength == two.strength
    # The primal form adds its floor of 1e-6 and the rounding of float32 sums to the diagonal.
    np.testing.assert_allclose(two.weights, one.weights, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(two.error, one.error, rtol=1e-2, atol=1e-4)


def errors_on_the_other_half(p, y, prior, intercept):
    """For each strength, by a solve of its own in float64; then what the prior leaves."""
    found = np.zeros(len(STRENGTHS) + 1)
    for train, test in ((0, 1), (1, 0)):
        x, t, u, v = (a[i::2] - intercept * a[i::2].mean(0) for i, a in ((train, p), (train, y), (test, p), (test, y)))
        second = (x * x).sum(0)
        for k, strength in enumerate(STRENGTHS):
            added = strength * np.diag(np.maximum(second, RARE * second.mean()))
            change = np.linalg.solve(x.T @ x + added, x.T @ (t - x @ prior.T))
            found[k] += ((v - u @ (prior.T + change)) ** 2).sum()
        found[-1] += ((v - u @ prior.T) ** 2).sum()
    return found


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0, 3.0, 10.0, 1e3])
@pytest.mark.parametrize("rows", [14, 24, 38])
@pytest.mark.parametrize("intercept", [True, False])
def test_both_forms_choose_alike_for_fewer_samples_than_features(noise, rows, intercept):
    rng = np.random.default_rng([rows, intercept])
    p = (rng.standard_normal((rows, 40)) * np.geomspace(0.3, 3, 40) + 1).astype(np.float32)
    true = rng.standard_normal((3, 40))
    prior = true + 0.3 * rng.standard_normal((3, 40))
    y = (p @ true.T + noise * rng.standard_normal((rows, 3))).astype(np.float32)
    wide = p.astype(np.float64), y.astype(np.float64)
    one = fit(halves(*wide, moments), prior, intercept)
    two = fit_rows(halves(p, y, SampleRows), prior, intercept)
    *errors, kept = errors_on_the_other_half(*wide, prior, intercept)
    assert two.strength == STRENGTHS[int(np.argmin(errors))]
    # With an intercept the primal form allows for the rounding of sums in float32: strengths that are as good to it.
    near = 1 + 1e-3 * intercept
    assert errors[STRENGTHS.index(one.strength)] <= near * min(errors)
    stays = min(errors) >= kept
    assert np.array_equal(one.weights, prior) == np.array_equal(two.weights, prior) == stays
    np.testing.assert_allclose(two.weights, one.weights, rtol=0, atol=0.1 if intercept else 1e-8)


def test_both_forms_look_at_the_same_outputs():
    """Those in between, which would ask for another strength, decide nothing."""
    rng = np.random.default_rng(8)
    p, true = rng.standard_normal((24, 40)).astype(np.float32), rng.standard_normal((2 * OUTPUTS, 40))
    y = p @ true.T
    y[:, 1::2] += 1000 * rng.standard_normal((24, OUTPUTS))
    y, prior = y.astype(np.float32), np.zeros_like(true)
    one = fit(halves(p.astype(np.float64), y.astype(np.float64), moments), prior)
    two = fit_rows(halves(p, y, SampleRows), prior)
    assert one.strength == two.strength
    assert two.strength == fit_rows(halves(p, y[:, ::2], SampleRows), prior[::2]).strength
    assert two.strength != fit_rows(halves(p, y[:, 1::2], SampleRows), prior[1::2]).strength


def test_both_forms_go_downhill_from_the_middle(monkeypatch):
    """Where the error has two valleys, the nearer one is theirs: one search serves both."""
    asked = []
    monkeypatch.setattr(ridge, "_lowest", lambda loss, values: (asked.append(values), (values[2], loss(values[2])))[1])
    rng = np.random.default_rng(9)
    p, y = rng.standard_normal((24, 40)).astype(np.float32), rng.standard_normal((24, 3)).astype(np.float32)
    prior = np.zeros((3, 40))
    one = fit(halves(p.astype(np.float64), y.astype(np.float64), moments), prior)
    two = fit_rows(halves(p, y, SampleRows), prior)
    assert one.strength == two.strength == STRENGTHS[2] and asked == [STRENGTHS, STRENGTHS]


@pytest.mark.parametrize("rows", [10, 60])
def test_rounding_is_no_gain_in_either_form(rows):
    """Where the prior predicts all but what rounding leaves, it stays as it is."""
    rng = np.random.default_rng(10)
    p, prior = rng.standard_normal((rows, 40)).astype(np.float32), rng.standard_normal((3, 40))
    y = p.astype(np.float64) @ prior.T
    y += 1e-8 * np.abs(y).max() * (p[:, :1] > 0)  # in float64 only: less than counts of the targets' power
    one = fit(halves(p.astype(np.float64), y, moments), prior, intercept=False)
    two = fit_rows(halves(p, y, SampleRows), prior, intercept=False)
    assert np.array_equal(one.weights, prior) and np.array_equal(two.weights, prior)


def test_one_sample_a_half_tells_nothing_in_either_form():
    p, prior = np.ones((2, 3), np.float32), np.ones((1, 3))
    y = 5 * np.ones((2, 1), np.float32)
    one, two = fit(halves(p, y, moments), prior), fit_rows(halves(p, y, SampleRows), prior)
    assert one.strength == two.strength and np.array_equal(one.weights, two.weights)


def test_fewer_samples_than_features():
    """The samples are met, and what they do not show stays with the prior."""
    rng = np.random.default_rng(4)
    p, true = rng.standard_normal((20, 60)).astype(np.float32), rng.standard_normal((5, 60))
    prior = true + 0.1 * rng.standard_normal((5, 60))
    y = (p @ true.T).astype(np.float32)
    result = fit_rows(halves(p, y, SampleRows), prior)
    assert result.error < 1e-3
    assert np.linalg.norm(result.weights - prior) <= np.linalg.norm(true - prior)


def test_constant_and_dead_features_do_no_harm(data):
    p, weights, y = data
    p = np.concatenate([p, np.zeros((len(p), 2)), np.ones((len(p), 1))], axis=1)
    result = fit(halves(p, y, moments), np.zeros((4, 9)))
    assert np.isfinite(result.weights).all() and result.error < 1e-5


@pytest.mark.parametrize("few", [False, True])
def test_what_hardly_stirs_does_not_blow_up_where_it_does(few):
    """A feature that two samples show, a thousandth of the others' size, where y happens to be off."""
    rng = np.random.default_rng(5)
    rows, features = (40, 60) if few else (400, 6)
    p, weights = rng.standard_normal((rows, features)), rng.standard_normal((4, features))
    y = p @ weights.T + 0.1 * rng.standard_normal((rows, 4))
    rare = np.zeros((rows, 1))
    rare[[3, 8]] = 1e-3
    y[[3, 8]] += 1.0
    seen = np.concatenate([p, rare], axis=1).astype(np.float32 if few else np.float64)
    solve, kind = (fit_rows, SampleRows) if few else (fit, moments)
    result = solve(halves(seen, y.astype(seen.dtype), kind), np.zeros((4, features + 1)))
    assert np.abs(result.weights[:, -1]).max() < 1.0


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0, 10.0, 1e3])
def test_the_strength_is_the_one_of_the_least_error_on_the_other_half(noise):
    rng = np.random.default_rng(6)
    p, weights = rng.standard_normal((60, 20)), rng.standard_normal((4, 20))
    y = p @ weights.T + noise * rng.standard_normal((60, 4))

    def error(strength):
        total = 0.0
        for train, test in ((0, 1), (1, 0)):
            x, t, u, v = (a[i::2] - a[i::2].mean(0) for i, a in ((train, p), (train, y), (test, p), (test, y)))
            found = np.linalg.solve(x.T @ x + strength * np.diag((x * x).sum(0)), x.T @ t)
            total += ((v - u @ found) ** 2).sum()
        return total

    assert fit(halves(p, y, moments), np.zeros((4, 20))).strength == min(STRENGTHS, key=error)


def test_a_strength_is_found_on_some_of_many_outputs():
    """The others, which would ask for another one, are solved for with it too."""
    rng = np.random.default_rng(7)
    p, weights = rng.standard_normal((60, 20)), rng.standard_normal((2 * OUTPUTS, 20))
    y = p @ weights.T
    y[:, 1::2] += 100 * rng.standard_normal((60, OUTPUTS))
    whole = fit(halves(p, y, moments), np.zeros_like(weights))
    some = fit(halves(p, y[:, ::2], moments), np.zeros_like(weights[::2]))
    assert whole.strength == some.strength and whole.weights.shape == weights.shape
    np.testing.assert_allclose(whole.weights[::2], some.weights, rtol=1e-6, atol=1e-9)


def test_one_sample_tells_nothing():
    p, prior = np.ones((2, 3)), np.ones((1, 3))
    assert np.array_equal(fit(halves(p, 5 * np.ones((2, 1)), moments), prior).weights, prior)


@pytest.mark.parametrize("kind", [moments, SampleRows])
@pytest.mark.parametrize("feature, weight", [(np.nan, 1.0), (0.5, np.inf)], ids=["sample", "prior"])
def test_the_prior_stays_where_something_is_no_finite_number(kind, feature, weight):
    """What a smaller model overflows in, or weights merged beyond float16's range: the search for a strength ends, no
    warning is given, and others judge the prior."""
    rng = np.random.default_rng(0)
    p, y, prior = rng.standard_normal((40, 6)), rng.standard_normal((40, 3)), np.ones((3, 6))
    p[3, 2], prior[1, 2] = feature, weight
    found = (fit if kind is moments else fit_rows)(halves(p, y, kind), prior)
    np.testing.assert_array_equal(found.weights, prior)
