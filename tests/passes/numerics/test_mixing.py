"""Folding a sparse matrix into weights against einsum."""

import numpy as np
import pytest
from scipy import sparse

from passes.numerics.mixing import mix_columns


@pytest.mark.parametrize("density", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 6, 1), (5, 6, 1), (1, 6, 9), (7, 6, 9), (0, 6, 3)])
def test_mixing_equals_einsum(shape, density):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(shape, dtype=np.float32)
    z = sparse.random_array((6, 4), density=density, rng=rng, format="csr")
    np.testing.assert_allclose(mix_columns(weights, z), np.einsum("acb,ck->akb", weights, z.toarray()), atol=1e-6)


def test_a_selection_is_exact():
    weights = np.random.default_rng(0).standard_normal((3, 5, 2), dtype=np.float32)
    z = sparse.csr_array((np.ones(2), ([1, 4], [0, 1])), shape=(5, 2))
    assert np.array_equal(mix_columns(weights, z), weights[:, [1, 4]])


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="cannot be mixed"):
        mix_columns(np.zeros((2, 3, 4), np.float32), np.eye(4))
