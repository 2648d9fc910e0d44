"""Reduced-rank regression: optimal maps, rotated towards the channels whose places they take."""

import numpy as np
import pytest

from passes.numerics.projection import prediction_from, principal, projection


def moments(size, seed=0):
    """A covariance and the W^T W of readers, both of full rank."""
    rng = np.random.default_rng(seed)
    spread, weights = rng.standard_normal((size, 3 * size)), rng.standard_normal((2 * size, size))
    return spread @ spread.T / (3 * size), weights.T @ weights


def lost(covariance, gram, maps):
    """Share of tr(G S) that the best prediction from ``maps`` x leaves."""
    z = prediction_from(maps, covariance, 0.0)
    rest = np.eye(len(covariance)) - z @ maps
    return np.trace(gram @ rest @ covariance @ rest.T) / np.trace(gram @ covariance)


@pytest.mark.parametrize("kept", [1, 3, 7])
def test_what_is_said_to_be_lost_is_lost_and_no_other_map_loses_less(kept):
    covariance, gram = moments(8)
    found = principal(covariance, gram)
    best = lost(covariance, gram, projection(found, covariance, np.arange(kept)))
    assert best == pytest.approx(found.lost[kept], rel=1e-5)
    assert (np.diff(found.lost) < 0).all() and found.lost[0] == pytest.approx(1.0) and found.lost[-1] == 0
    rng = np.random.default_rng(1)
    others = [np.eye(8)[rng.permutation(8)[:kept]] for _ in range(20)]
    others += [rng.standard_normal((kept, 8)) for _ in range(20)]
    assert best < min(lost(covariance, gram, maps) for maps in others)


def test_what_varies_without_the_rest_takes_its_own_place():
    """Channels 1 and 4 hold all variance: their places hold them."""
    covariance = np.diag([0.0, 4.0, 0.0, 0.0, 1.0])
    found = projection(principal(covariance, np.eye(5)), covariance, np.array([1, 4]))
    np.testing.assert_allclose(found, np.eye(5)[[1, 4]], atol=1e-6)


def test_channels_of_no_weight_and_no_variance_are_borne():
    covariance, gram = moments(6)
    covariance[5], covariance[:, 5], gram[4], gram[:, 4] = 0, 0, 0, 0
    maps = projection(principal(covariance, gram), covariance, np.array([0, 1, 2]))
    assert np.isfinite(maps).all() and np.isfinite(prediction_from(maps, covariance, 1e-2)).all()
    empty = projection(principal(0 * covariance, gram), 0 * covariance, np.array([0, 1]))
    assert np.isfinite(empty).all() and np.isfinite(prediction_from(empty, 0 * covariance, 1e-2)).all()
