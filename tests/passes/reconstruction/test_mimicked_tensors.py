"""The variance of each channel, which weighs its errors: summed batch by batch, and exact."""

import numpy as np
import pytest

from passes.reconstruction.mimicked_tensors import variances

RNG = np.random.default_rng(0)


def made(*shape):
    """Values whose means differ from place to place, far from zero."""
    return (RNG.standard_normal(shape) + 100 * RNG.standard_normal((1, *shape[1:]))).astype(np.float32)


@pytest.mark.parametrize(("shape", "axis"), [((12, 5, 4, 3), 1), ((12, 7, 5), 2), ((12, 6), 1)])
def test_deviations_are_from_the_mean_of_each_element(shape, axis):
    values = made(*shape)
    parts = [values[:5], values[5:6], values[6:]]
    others = tuple(k for k in range(len(shape)) if k != axis)
    expected = np.square(values - values.mean(0, dtype=np.float64)).mean(others)
    np.testing.assert_allclose(variances(parts, axis), expected, rtol=1e-6)


def test_where_sizes_differ_they_are_from_the_mean_of_all_places():
    parts = [made(2, 3, 4, 4), made(3, 3, 2, 5), made(1, 3, 4, 4)]
    rows = np.concatenate([np.moveaxis(part, 1, -1).reshape(-1, 3) for part in parts]).astype(np.float64)
    np.testing.assert_allclose(variances(parts, 1), rows.var(0), rtol=1e-9)
