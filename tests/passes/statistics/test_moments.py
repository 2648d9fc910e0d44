"""Second moments computed in strips equal those computed at once."""

import numpy as np
import pytest
from netkit import engine

from passes.settings.statistics_tuning import StatisticsTuning
from passes.statistics.graph_builder import Builder
from passes.statistics.moments import gram_strips, joined_gram


@pytest.mark.parametrize("large", [1, 8])
@pytest.mark.parametrize("groups", [1, 3])
def test_strips_join_to_the_product(large, groups):
    tuning = StatisticsTuning(strip_features=large)
    p = np.random.default_rng(0).standard_normal((groups, 7, 20)).astype(np.float32)
    build = Builder()
    strips = gram_strips(build, "p", 7, "pp", tuning)
    assert len(strips) == (tuning.gram_strips if large == 1 else 1)
    found = engine(build.model({"p": p}, strips, "moments"))({"p": p})
    product = joined_gram(found, 7, "pp", tuning)
    np.testing.assert_allclose(product, p.astype(np.float64) @ p.swapaxes(1, 2), rtol=1e-5, atol=1e-5)
    if large == 1:  # what lies below the diagonal strips is never computed
        np.testing.assert_array_equal(product[:, 4:, :4], product[:, :4, 4:].swapaxes(1, 2))
        assert sum(strip.size for strip in found.values()) < groups * 49
