"""Norms and distances against NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import cdist

from passes.numerics.norms import median_distances, row_norms
from passes.numerics.tuning import MatchTuning

# float32 rows, float64 sums: what is left is the order of the sums.
RELATIVE = 1e-12

finite = st.floats(-1e6, 1e6, width=32)
matrices = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=finite)


@settings(deadline=None, max_examples=50)
@given(rows=matrices, order=st.sampled_from([1, 2]))
def test_row_norms_equal_numpy(rows, order):
    np.testing.assert_allclose(row_norms(rows, order), np.linalg.norm(rows.astype(float), order, axis=1), RELATIVE)


def test_row_norms_neither_overflow_nor_vanish():
    rows = np.array([[3e38, 3e38], [1e-40, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(row_norms(rows, 2), np.linalg.norm(rows.astype(float), axis=1), RELATIVE)


@settings(deadline=None, max_examples=50)
@given(rows=matrices)
def test_median_distances_equal_scipy(rows):
    wide = rows.astype(float)
    # cdist rounds a distance of nothing to nothing as well: differences, not a Gram matrix.
    np.testing.assert_allclose(median_distances(rows), cdist(wide, wide).sum(axis=1), RELATIVE)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 33])
def test_median_distances_tile_by_tile(channels):
    rows = np.random.default_rng(channels).standard_normal((channels, 11), dtype=np.float32)
    tiled = median_distances(rows, MatchTuning(tile=8, paired_rows=0))
    np.testing.assert_allclose(tiled, median_distances(rows), RELATIVE)


def test_copies_are_equally_far_from_all():
    rows = np.random.default_rng(0).standard_normal((40, 37), dtype=np.float32)
    found = median_distances(np.concatenate([rows, rows]))
    assert (found[:40] == found[40:]).all()


def test_the_outlier_is_farthest_from_the_median():
    rows = np.ones((6, 4), np.float32)
    rows[3] = 9.0
    assert np.argmax(median_distances(rows)) == 3


@pytest.mark.parametrize("measure", [row_norms, median_distances])
def test_nothing_in_nothing_out(measure):
    assert measure(np.zeros((0, 3))).shape == (0,)
    assert (measure(np.zeros((3, 0))) == 0).all()


@pytest.mark.parametrize("measure", [row_norms, median_distances])
@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((2, 2, 2)), [[np.nan]], [[np.inf]], [[1e300]]])
def test_refusals(measure, bad):
    with pytest.raises(ValueError, match="dimensions|range"):
        measure(bad)


def test_refuses_other_norms():
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        row_norms(np.ones((2, 2)), 3)
