"""Greedy column-subset selection, against projections written out."""

import numpy as np
import pytest

from passes.numerics.subset import choose_columns
from passes.numerics.tuning import SubsetTuning


def explained(covariance, weight, chosen):
    """tr(W cov W^T) less what is left when the chosen channels predict the others."""
    inner = covariance[np.ix_(chosen, chosen)]
    rest = covariance - covariance[:, chosen] @ np.linalg.pinv(inner) @ covariance[chosen]
    return np.trace(weight @ (covariance - rest)) / np.trace(weight @ covariance)


@pytest.mark.parametrize("seed", range(4))
def test_each_step_takes_the_channel_that_explains_most(seed):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((50, 7)) @ rng.standard_normal((7, 7)), rng.standard_normal((3, 7))
    covariance, weight = x.T @ x / 50, w.T @ w
    candidates = np.array([0, 1, 2, 4, 5, 6])
    chosen, share = choose_columns(covariance, weight, candidates, 3)
    for k in range(3):
        best = max(explained(covariance, weight, [*chosen[:k], c]) for c in candidates if c not in chosen[:k])
        np.testing.assert_allclose(explained(covariance, weight, list(chosen[: k + 1])), best, rtol=1e-6)
        np.testing.assert_allclose(share[k], best, rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_downdates_that_wait_change_nothing(order):
    """More picks than wait for each other."""
    rng = np.random.default_rng(9)
    x, w = rng.standard_normal((200, 50)) @ rng.standard_normal((50, 50)), rng.standard_normal((20, 50))
    covariance, weight = x.T @ x / 200, w.T @ w
    covariance, weight = (np.array(one, order=order) for one in (covariance, weight))
    chosen, share = choose_columns(covariance, weight, np.arange(50), 40)
    assert len(set(chosen.tolist())) == 40
    for k in (1, 15, 16, 17, 33, 40):
        np.testing.assert_allclose(share[k - 1], explained(covariance, weight, list(chosen[:k])), rtol=1e-6)


def test_a_copy_is_not_taken_beside_its_original():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((100, 4)) * [5, 1, 1, 1]
    x = np.concatenate([x, 2 * x[:, :1]], axis=1)
    chosen, share = choose_columns(x.T @ x, np.eye(5), np.arange(5), 4)
    assert not {0, 4} <= set(chosen.tolist())
    np.testing.assert_allclose(share[-1], 1)


def test_more_are_wanted_than_there_is_to_explain():
    chosen, _ = choose_columns(np.zeros((4, 4)), np.eye(4), np.arange(4), 3)
    assert chosen.tolist() == [0, 1, 2]


def test_nothing_is_overwritten():
    covariance, weight, candidates = np.diag([1.0, 2, 3]), np.eye(3), np.arange(3)
    choose_columns(covariance, weight, candidates, 2)
    assert covariance.tolist() == np.diag([1.0, 2, 3]).tolist() and candidates.tolist() == [0, 1, 2]


def test_of_very_many_channels_each_is_judged_alone():
    covariance, weight = np.diag([1.0, 4.0, 2.0, 8.0]), np.diag([9.0, 1.0, 3.0, 1.0])
    chosen, share = choose_columns(covariance, weight, np.array([0, 1, 3]), 2, SubsetTuning(most_greedy=3))
    assert chosen.tolist() == [0, 3]
    np.testing.assert_allclose(share, [9 / 27, 17 / 27])
