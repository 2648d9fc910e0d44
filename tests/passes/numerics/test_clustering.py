"""Ward's clustering against SciPy's, and against its definition where ties leave the tree open."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.cluster.hierarchy import fcluster, linkage

from passes.numerics import cut, cut_height, ward_linkage, ward_linkages


def canonical(labels):
    """The same partition with labels in the order of their first point."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def scipy_ward(points):
    table = linkage(points.astype(np.float32).astype(float), "ward")
    return table[:, :2].astype(int), table[:, 2]


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (16, 4), (37, 300), (64, 9), (130, 5), (200, 1)])
def test_linkage_equals_scipy(n, d):
    points = np.random.default_rng(n).standard_normal((n, d))
    merges, heights = ward_linkage(points)
    want_merges, want_heights = scipy_ward(points)
    assert (merges == want_merges).all()
    np.testing.assert_allclose(heights, want_heights, 1e-9)


def test_linkages_equal_scipy_set_by_set(monkeypatch):
    monkeypatch.setattr(
        "passes.numerics.clustering._BUDGET", 3 * 8 * 20 * 20
    )  # three sets at a time, so a ragged last chunk
    points = np.random.default_rng(0).standard_normal((7, 20, 9))
    merges, heights = ward_linkages(points)
    assert merges.shape == (7, 19, 2) and heights.shape == (7, 19)
    for k in range(7):
        want_merges, want_heights = scipy_ward(points[k])
        assert (merges[k] == want_merges).all()
        np.testing.assert_allclose(heights[k], want_heights, 1e-9)


def test_linkage_does_not_depend_on_what_is_beside_it():
    points = np.random.default_rng(0).standard_normal((5, 33, 9), dtype=np.float32)
    merges, heights = ward_linkages(points)
    for k in range(5):
        one = ward_linkage(points[k])
        assert (one[0] == merges[k]).all() and (one[1] == heights[k]).all()


@settings(deadline=None, max_examples=150)
@given(
    points=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
        elements=st.integers(-2, 2).map(float),
    )
)
def test_with_ties_every_merge_is_still_wards(points):
    merges, heights = ward_linkage(points)
    n = len(points)
    assert (np.diff(heights) >= 0).all()
    assert sorted(merges.ravel()) == sorted(set(range(2 * n - 1)) - {2 * n - 2})  # each cluster is merged once
    clusters = {i: [i] for i in range(n)}
    for step, (x, y) in enumerate(merges):
        a, b = clusters.pop(x), clusters.pop(y)
        gap = np.linalg.norm(points[a].mean(axis=0, dtype=float) - points[b].mean(axis=0, dtype=float))
        assert heights[step] == pytest.approx(np.sqrt(2 * len(a) * len(b) / (len(a) + len(b))) * gap, abs=1e-6)
        clusters[n + step] = a + b


def test_equidistant_points_do_not_lead_the_chain_in_circles():
    merges, heights = ward_linkage(np.eye(64) / 3)
    assert len(merges) == 63 and np.isfinite(heights).all()


def test_copies_merge_at_height_zero():
    points = np.tile(np.random.default_rng(0).standard_normal((4, 50)), (3, 1))
    merges, heights = ward_linkage(points)
    assert (heights[:8] == 0).all() and heights[8] > 1
    assert cut(merges, 4).tolist() == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_cut_gives_exactly_as_many_clusters(n):
    points = np.random.default_rng(n).standard_normal((n, 3))
    merges, _ = ward_linkage(points)
    for clusters in range(1, n + 1):
        labels = cut(merges, clusters)
        assert len(set(labels.tolist())) == clusters
        if n > 1:
            assert (labels == canonical(fcluster(linkage(points, "ward"), clusters, "maxclust"))).all()


def test_cut_gives_exactly_as_many_clusters_when_all_is_equal():
    merges, _ = ward_linkage(np.ones((9, 2)))
    assert [len(set(cut(merges, k).tolist())) for k in range(1, 10)] == list(range(1, 10))


def test_cut_height_equals_scipy():
    points = np.random.default_rng(0).standard_normal((3, 30, 4)).astype(np.float32)
    merges, heights = ward_linkages(points)
    for height in [-1.0, 0.0, 0.7, 1.5, 4.0, 1e9]:
        labels = cut_height(merges, heights, height)
        for k in range(3):
            want = canonical(fcluster(linkage(points[k].astype(float), "ward"), height, "distance"))
            assert (labels[k] == want).all()
            assert (cut_height(merges[k], heights[k], height) == want).all()


def test_cut_height_includes_the_height_itself():
    merges, heights = ward_linkage(np.random.default_rng(0).standard_normal((12, 2)))
    for step in range(11):
        assert (cut_height(merges, heights, heights[step]) == cut(merges, 11 - step)).all()


def test_one_point():
    merges, heights = ward_linkage(np.ones((1, 3)))
    assert merges.shape == (0, 2) and heights.shape == (0,)
    assert cut(merges, 1).tolist() == [0] and cut_height(merges, heights, 1.0).tolist() == [0]


def test_no_sets():
    merges, heights = ward_linkages(np.ones((0, 4, 2)))
    assert merges.shape == (0, 3, 2) and cut_height(merges, heights, 1.0).shape == (0, 4)


@pytest.mark.parametrize("bad", [np.ones((0, 3)), np.ones(3), [[np.nan]]])
def test_linkage_refuses(bad):
    with pytest.raises(ValueError, match="no points|dimensions|NaN"):
        ward_linkage(bad)


@pytest.mark.parametrize("clusters", [0, 4])
def test_cut_refuses_impossible_numbers(clusters):
    with pytest.raises(ValueError, match="clusters"):
        cut([[0, 1], [2, 3]], clusters)


@pytest.mark.parametrize("bad", [[[0, 1], [2, 4]], [[-1, 1], [2, 3]], [0, 1], [[0, 1, 2]], [[[0, 1]]]])
def test_cut_refuses_what_is_no_dendrogram(bad):
    with pytest.raises(ValueError, match="merge"):
        cut(bad, 1)


def test_cut_height_refuses_other_shapes():
    with pytest.raises(ValueError, match="expected shape"):
        cut_height([[0, 1], [2, 3]], [1.0], 1.0)
