"""Least squares by conjugate natural gradients, against NumPy's closed forms."""

import numpy as np
import pytest

from passes.numerics.gauss_newton import Affine, StepMetric, descend
from passes.numerics.ridge import unit_penalties
from passes.numerics.tuning import GaussNewtonTuning

THOROUGH = GaussNewtonTuning(least_gain=0.0)
"""Steps follow however little the last one gained."""
TINY = 1e-12


def metric(p, outer=None, damping=TINY, biased=True):
    return StepMetric(float(len(p)), p.sum(0), p.T @ p, outer, damping, biased)


def zeros(o, d):
    return Affine(np.zeros((o, d)), np.zeros(o))


def linear(p, y, mix=None):
    """Slope and curvature of ||(y - p W^T - b) mix^T||^2; ``mix`` is what comes behind the block."""
    mix = np.eye(y.shape[1]) if mix is None else mix

    def slope(point):
        (block,) = point
        rest = (y - p @ block.weights.T - block.bias) @ mix.T
        back = rest @ mix
        return float((rest**2).sum()), [Affine(back.T @ p, back.sum(0))]

    def curvature(point, change):
        (block,) = change
        return float((((p @ block.weights.T + block.bias) @ mix.T) ** 2).sum())

    return slope, curvature


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    p = rng.standard_normal((200, 6)) @ (np.eye(6) + 0.2 * rng.standard_normal((6, 6))) + 1
    return p, p @ rng.standard_normal((6, 4)) + [1, -2, 0.5, 7] + rng.standard_normal((200, 4))


def lstsq(p, y):
    return np.linalg.lstsq(p, y, rcond=None)[0].T


@pytest.mark.parametrize("biased", [True, False])
def test_ordinary_least_squares_in_one_step(data, biased):
    p, y = data
    (best,), losses = descend([zeros(4, 6)], [metric(p, biased=biased)], *linear(p, y), 1)
    expected = lstsq(np.column_stack([p, np.ones(len(p))]), y) if biased else lstsq(p, y)
    np.testing.assert_allclose(best.weights, expected[:, :6], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(best.bias, expected[:, 6] if biased else 0.0, rtol=1e-4)
    assert len(losses) == 2 and losses[1] < 0.1 * losses[0]


def test_a_block_without_bias_keeps_it_zero(data):
    p, y = data
    (best,), _ = descend([zeros(4, 6)], [metric(p, biased=False, damping=0.1)], *linear(p, y), 5)
    assert not best.bias.any() and best.weights.any()


def test_damped_it_is_a_ridge_toward_the_start(data):
    p, y = data
    rng = np.random.default_rng(1)
    start, m = Affine(rng.standard_normal((4, 6)), rng.standard_normal(4)), metric(p, damping=0.3)
    (best,), _ = descend([start], [m], *linear(p, y), 20, THOROUGH)
    centred = p - p.mean(0)
    np.testing.assert_allclose(m.ridge, 0.3 * (centred**2).sum(0), rtol=1e-5)
    tall = np.concatenate([centred, np.diag(np.sqrt(m.ridge))])
    change = lstsq(tall, np.concatenate([y - y.mean(0) - centred @ start.weights.T, np.zeros((6, 4))]))
    np.testing.assert_allclose(best.weights, start.weights + change, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(p.mean(0) @ best.weights.T + best.bias, y.mean(0), rtol=1e-5)


def test_what_comes_behind_weighs_the_ridge(data):
    """S W G + (S + damping diag S) (W - W0) R is the normal equation."""
    p, y = data
    mix = np.random.default_rng(2).standard_normal((5, 4))
    outer, damping = mix.T @ mix, 0.2
    m, start = metric(p, outer, damping), zeros(4, 6)
    (best,), _ = descend([start], [m], *linear(p, y, mix), 60, THOROUGH)
    centred = p - p.mean(0)
    damped = outer + damping * np.diag(unit_penalties(np.diag(outer)))
    np.testing.assert_allclose(m.outer, damped)
    system = np.kron(outer, centred.T @ centred) + np.kron(damped, np.diag(m.ridge))
    expected = np.linalg.solve(system, (outer @ (y - y.mean(0)).T @ centred).ravel()).reshape(4, 6)
    np.testing.assert_allclose(best.weights, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("weighed", [True, False])
def test_a_step_is_the_gradient_between_both_inverses(data, biased, weighed):
    p, _ = data
    rng = np.random.default_rng(3)
    root = rng.standard_normal((5, 4))
    m = metric(p, root.T @ root if weighed else None, 0.1, biased)
    gradient = Affine(rng.standard_normal((4, 6)), rng.standard_normal(4))
    seen = p - p.mean(0) if biased else p
    inner = seen.T @ seen
    inner += 0.1 * np.diag(unit_penalties(np.diag(inner)))
    outer = root.T @ root if weighed else np.eye(4)
    outer = outer + 0.1 * np.diag(unit_penalties(np.diag(outer))) if weighed else outer
    step = m.step(gradient)
    np.testing.assert_allclose(
        step.weights, np.linalg.inv(outer) @ gradient.weights @ np.linalg.inv(inner), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(step.bias, np.linalg.inv(outer) @ gradient.bias / len(p))


def test_the_bias_stands_for_the_output_at_the_mean(data):
    """A pair of gradients, and a pair of changes, are inner products of each other in both coordinates."""
    p, _ = data
    rng = np.random.default_rng(4)
    one, two = (Affine(rng.standard_normal((4, 6)), rng.standard_normal(4)) for _ in range(2))
    for m in (metric(p), metric(p, biased=False)):
        if not m.biased:
            two = Affine(two.weights, np.zeros(4))
        np.testing.assert_allclose(m.centre(one).dot(two), one.dot(m.raw(two)))


def two_layers(x, y):
    """Slope and curvature of ||y - W_2 relu(W_1 x + b_1) - b_2||^2."""

    def forward(point):
        a = x @ point[0].weights.T + point[0].bias
        h = np.maximum(a, 0)
        return a > 0, h, y - h @ point[1].weights.T - point[1].bias

    def slope(point):
        gate, h, rest = forward(point)
        back = rest @ point[1].weights * gate
        return float((rest**2).sum()), [Affine(back.T @ x, back.sum(0)), Affine(rest.T @ h, rest.sum(0))]

    def curvature(point, change):
        gate, h, _ = forward(point)
        moved = (x @ change[0].weights.T + change[0].bias) * gate @ point[1].weights.T
        return float(((moved + h @ change[1].weights.T + change[1].bias) ** 2).sum())

    return slope, curvature, forward


def student(seed=0, dead=False):
    """A teacher of twelve hidden channels, and a student of the first eight."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 6))
    w1, b1, w2 = rng.standard_normal((12, 6)), 0.3 * rng.standard_normal(12), rng.standard_normal((5, 12))
    y = np.maximum(x @ w1.T + b1, 0) @ w2.T
    if dead:
        x[:, 2], b1[3] = 0, -100
    return x, y, [Affine(w1[:8], b1[:8]), Affine(w2[:, :8], np.zeros(5))]


def metrics_at(start, x, forward, damping=0.1):
    gate, h, _ = forward(start)
    w2 = start[1].weights
    both = gate.T.astype(float) @ gate
    return [metric(x, (w2.T @ w2) * both / both.max(), damping), metric(h, None, damping)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [0, 1, 3, 10])
def test_the_loss_of_two_layers_never_rises(seed, steps):
    x, y, start = student(seed)
    slope, curvature, forward = two_layers(x, y)
    best, losses = descend(start, metrics_at(start, x, forward), slope, curvature, steps, THOROUGH)
    before, after = slope(start)[0], slope(best)[0]
    assert losses[0] == before and len(losses) == steps + 1
    assert any(after == loss for loss in losses)
    assert after <= before and (after < (0.5 if steps > 1 else 1) * before or not steps)


def test_dead_features_and_channels_do_no_harm():
    x, y, start = student(dead=True)
    slope, curvature, forward = two_layers(x, y)
    assert not forward(start)[0][:, 3].any()
    best, _ = descend(start, metrics_at(start, x, forward), slope, curvature, 5)
    assert slope(best)[0] < 0.5 * slope(start)[0]
    for block in best:
        assert np.isfinite(block.weights).all() and np.isfinite(block.bias).all()
    assert np.array_equal(best[0].weights[:, 2], start[0].weights[:, 2])
    np.testing.assert_allclose(best[0].weights[3], start[0].weights[3], atol=1e-9)
    np.testing.assert_allclose(best[1].weights[:, 3], start[1].weights[:, 3], atol=1e-9)


def test_a_step_that_made_things_worse_is_cut(data):
    p, y = data
    slope, curvature = linear(p, y)
    (best,), losses = descend([zeros(4, 6)], [metric(p)], slope, lambda *at: curvature(*at) / 4, 2)
    assert losses[1] > losses[0] > losses[2] == slope([best])[0]
    np.testing.assert_allclose(best.weights, lstsq(p - p.mean(0), y), rtol=1e-4, atol=1e-5)


def test_nothing_to_gain_changes_nothing(data):
    p, _ = data
    start = Affine(np.ones((4, 6)), np.ones(4))
    (best,), losses = descend([start], [metric(p)], *linear(p, p @ start.weights.T + start.bias), 5)
    assert best is start and len(losses) <= 6


def test_a_start_that_overflows_is_given_back(data):
    p, y = data
    slope, curvature = linear(p, y)
    start = zeros(4, 6)
    (best,), _ = descend([start], [metric(p)], lambda point: (np.nan, slope(point)[1]), curvature, 3)
    assert best is start


def test_where_the_last_step_made_things_worse_the_point_before_it_is_best(data):
    p, y = data
    slope, curvature = linear(p, y)
    start = zeros(4, 6)
    (best,), losses = descend([start], [metric(p)], slope, lambda *at: curvature(*at) / 10, 2)
    assert best is start and losses[0] < min(losses[1:])
