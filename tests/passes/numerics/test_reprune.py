"""Both elections against plain Python over SciPy's dendrograms."""

import math

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from passes.numerics.reprune import _cover, elect, elect_kernels

TIE = 1e-6


def plain_elect(rows, keep):
    rows = rows.astype(float)
    labels = fcluster(linkage(rows, "ward"), keep, "maxclust")
    kept = []
    for cluster in set(labels.tolist()):
        members = np.flatnonzero(labels == cluster)
        gaps = np.linalg.norm(rows[members] - rows[members].mean(axis=0), axis=1)
        near = [int(i) for i, gap in zip(members, gaps, strict=True) if gap <= gaps.min() + TIE]
        kept.append(min(near, key=lambda i: (-np.linalg.norm(rows[i]), i)))
    return sorted(kept)


def plain_elect_kernels(filters, keep):
    filters = filters.astype(float)
    outputs, inputs, _ = filters.shape
    trees = [linkage(filters[:, i], "ward") for i in range(inputs)]
    step = math.ceil(round((1 - keep / outputs) * outputs, 9))
    height = max(tree[step - 1, 2] for tree in trees)
    labels = [fcluster(tree, height * (1 + 1e-9), "distance") for tree in trees]
    pairs = [{(i, int(labels[i][o])) for i in range(inputs)} for o in range(outputs)]
    norms = [np.linalg.norm(filters[o]) for o in range(outputs)]
    kept, covered = [], set()
    while len(kept) < keep:
        left = [o for o in range(outputs) if o not in kept]
        best = min(left, key=lambda o: (-len(pairs[o] - covered), -norms[o], o))
        if not pairs[best] - covered:
            covered = set()
            continue
        kept.append(best)
        covered |= pairs[best]
    return sorted(kept)


@pytest.mark.parametrize("keep", [1, 2, 7, 20, 39, 40])
def test_elect_equals_plain_python(keep):
    rows = np.random.default_rng(keep).standard_normal((40, 18), dtype=np.float32)
    kept = elect(rows, keep)
    assert kept.dtype == np.int64
    assert kept.tolist() == plain_elect(rows, keep)


def test_elect_takes_one_of_each_planted_cluster():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((5, 30))
    which = rng.permutation(np.repeat(np.arange(5), [1, 2, 3, 8, 10]))
    kept = elect(centres[which] + 0.01 * rng.standard_normal((24, 30)), 5)
    assert sorted(which[kept].tolist()) == [0, 1, 2, 3, 4]


def test_elect_takes_the_larger_of_two_and_the_lower_of_equals():
    rng = np.random.default_rng(0)
    # Two members are equally far from their centre: the norm decides.
    base = rng.standard_normal((20, 99)).astype(np.float32)
    rows = np.concatenate([base, base * np.float32(1.01)])
    assert elect(rows, 20).tolist() == list(range(20, 40))
    assert elect(np.concatenate([base, base]), 20).tolist() == list(range(20))


@pytest.mark.parametrize("count", [3, 5, 7, 13, 25])
def test_rounding_does_not_elect(count):
    # Orthogonal filters of one size are all as far from their centre, and sums over them round differently.
    assert elect(np.eye(count), 1).tolist() == [0]


def test_elect_when_all_rows_are_equal():
    assert elect(np.ones((6, 3)), 3).size == 3
    assert elect(np.zeros((6, 3)), 6).tolist() == list(range(6))


@pytest.mark.parametrize("keep", [1, 3, 10, 17, 23, 24])
@pytest.mark.parametrize(("inputs", "size"), [(1, 9), (6, 9), (16, 1), (1, 1)])
def test_elect_kernels_equals_plain_python(keep, inputs, size):
    filters = np.random.default_rng(keep).standard_normal((24, inputs, size), dtype=np.float32)
    kept = elect_kernels(filters, keep)
    assert kept.dtype == np.int64
    assert kept.tolist() == plain_elect_kernels(filters, keep)


def test_elect_kernels_starts_another_round_when_all_is_covered():
    assert elect_kernels(np.ones((6, 4, 9)), 3).tolist() == [0, 1, 2]  # one cluster in every input channel
    kept = np.empty(5, np.int64)
    # Two clusters in each of two input channels. 5, the first in order, covers one of each, 1 the others; then again.
    _cover(np.array([[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0]]), np.array([5, 4, 3, 2, 1, 0]), 5, kept)
    assert kept.tolist() == [5, 1, 4, 2, 3]


def test_elect_kernels_prefers_coverage_to_norm():
    kernels = np.zeros((4, 2, 1))
    kernels[:, 0, 0] = [100, 100, 0, 0]
    kernels[:, 1, 0] = [100, 100, 0, 0]
    kept = elect_kernels(kernels, 2)
    assert kept.tolist() == [0, 2]  # 1 is larger than 2, and a copy of 0


@pytest.mark.parametrize("keep", [0, -1, 5])
def test_refuses_impossible_numbers(keep):
    with pytest.raises(ValueError, match="cannot keep"):
        elect(np.ones((4, 2)), keep)
    with pytest.raises(ValueError, match="cannot keep"):
        elect_kernels(np.ones((4, 2, 1)), keep)


def test_refuses_other_shapes_and_nan():
    with pytest.raises(ValueError, match="dimensions"):
        elect(np.ones(4), 2)
    with pytest.raises(ValueError, match="dimensions"):
        elect_kernels(np.ones((4, 2)), 2)
    with pytest.raises(ValueError, match="no input channels"):
        elect_kernels(np.ones((4, 0, 9)), 2)
    with pytest.raises(ValueError, match="NaN"):
        elect(np.full((4, 2), np.nan), 2)
