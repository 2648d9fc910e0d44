"""Covariances as matrices and as factors: both say the same of removed channels, and mix the same weights."""

from dataclasses import replace

import numpy as np
import pytest
from covariancekit import spectrum
from netkit import engine, net, observer, run
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.axes.scaling_matrix import LowRankUpdate
from passes.channels.covariance import DenseCovariance, LowRankCovariance, best_factor
from passes.numerics.shrinkage import prediction, shrunk
from passes.numerics.tuning import NUMERICS
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant
from passes.settings.tuning import TUNING
from passes.surgery.apply_plan import apply_plans, unshrunk_twin

FACTORS = NUMERICS.shrinkage.factors


def sample(count, size, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size)) @ spectrum(size).T + 1


def both(x, about=None):
    """The covariance of samples as a matrix and as factors."""
    mean = x.mean(0) if about is None else about
    return DenseCovariance((x - mean).T @ (x - mean) / len(x)), LowRankCovariance.of_rows(x, mean, len(x))


@pytest.mark.parametrize("dead", [0, 5])
@pytest.mark.parametrize("factor", [0.25, 1.0, 1e6])
def test_factors_say_what_the_matrix_says(dead, factor):
    x = sample(7, 30)
    x[:, :dead] = 2.0
    keep, others = np.arange(0, 30, 2), np.arange(1, 30, 2)
    dense, few = both(x)
    np.testing.assert_allclose(few.dense(), dense.dense(), atol=1e-12)
    dense, few = (each.shrunk(7, factor) for each in (dense, few))
    np.testing.assert_allclose(few.dense(), dense.dense(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(few.variances, dense.variances, rtol=1e-9, atol=1e-12)
    wanted = prediction(dense.dense(), keep, 0.01)
    np.testing.assert_allclose(few.mixing(keep, 0.01).toarray(), wanted, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(dense.mixing(keep, 0.01).toarray(), wanted)
    z = few.predicted(keep, others, 0.01)
    np.testing.assert_allclose(z.toarray(), wanted[others], rtol=1e-7, atol=1e-9)
    fresh, fresh_few = both(sample(6, 30, 1), x.mean(0))
    for given in (z, z.toarray()):
        for unseen in (fresh, fresh_few):
            assert unseen.misfit(keep, others)(given) == pytest.approx(fresh.misfit(keep, others)(wanted[others]))
    assert few.misfit(keep, others)(z) == pytest.approx(dense.misfit(keep, others)(wanted[others]))


def test_samples_that_do_not_vary_predict_nothing():
    dense, few = (each.shrunk(4, 1.0) for each in both(np.ones((4, 9))))
    keep = np.array([1, 4])
    np.testing.assert_array_equal(few.mixing(keep, 0.01).toarray(), prediction(dense.dense(), keep, 0.01))


def lost(covariance, keep, true):
    """Share of the variance of samples of a ``true`` covariance that a prediction by another one loses."""
    z = prediction(covariance, keep, 0.0)
    left = true - z @ true[keep] - true[:, keep] @ z.T + z @ true[np.ix_(keep, keep)] @ z.T
    return np.trace(left) / np.trace(true)


@pytest.mark.parametrize("decay", [0.25, 1.0, 3.0])
def test_the_factor_is_that_of_the_least_loss_on_unseen_samples(decay):
    """Of all of them by brute force; what it chooses loses little more than the best on samples without end."""
    rng, root = np.random.default_rng(13), spectrum(60, 13, decay)
    seen, unseen = (np.cov((rng.standard_normal((count, 60)) @ root.T).T, bias=True) for count in (90, 60))
    keep = np.sort(np.argsort(-np.diag(seen), kind="stable")[:30])
    found = best_factor(lambda f: DenseCovariance(shrunk(seen, 90, f)), DenseCovariance(unseen), 0.0)
    assert found == min(FACTORS, key=lambda f: lost(shrunk(seen, 90, f), keep, unseen))
    losses = {f: lost(shrunk(seen, 90, f), keep, root @ root.T) for f in FACTORS}
    assert losses[found] < 1.1 * min(losses.values())


def test_few_samples_give_the_same_factor():
    seen, unseen = (both(sample(20, 40, seed), sample(20, 40).mean(0)) for seed in (0, 1))
    found = [best_factor(lambda f, s=s: s.shrunk(20, f), u, 0.01) for s, u in zip(seen, unseen, strict=True)]
    assert found[0] == found[1]


def test_a_factor_that_makes_no_difference_is_one():
    s = np.diag([3.0, 2.0, 1.0, 1.0])
    assert best_factor(lambda f: DenseCovariance(s), DenseCovariance(s), 0.01) == 1.0
    one = DenseCovariance(s[:1, :1])
    assert best_factor(lambda f: one, one, 0.01) == 1.0


WIDE = """net (float[N,6] x) => (float[N,5] y) {
    a = Gemm<transB=1>(x, a_w, a_b)  b = Relu(a)  c = Gemm<transB=1>(b, c_w, c_b)
    d = Relu(c)  y = Gemm<transB=1>(d, y_w, y_b)
}"""
SIZES = dict(a_w=(40, 6), a_b=(40,), c_w=(36, 40), c_b=(36,), y_w=(5, 36), y_b=(5,))


def planned(most_greedy, few):
    """The model and its twin with half of the channels, and the type of the covariances."""
    numerics = replace(TUNING.numerics, subset=replace(TUNING.numerics.subset, most_greedy=most_greedy))
    statistics = replace(TUNING.statistics, row_share=0.25 if few else 0.0)
    tuning = replace(TUNING, numerics=numerics, statistics=statistics)
    analysis = analyse(net(WIDE, **SIZES), (), observer, Quiet(), engine)
    groups = [group for group in analysis.groups if not group.frozen]
    x = np.random.default_rng(3).standard_normal((8, 6)).astype(np.float32)
    feeds = [{"x": x[i : i + 2]} for i in range(0, 8, 2)]
    variant = WeightVariant(analysis.typing, feeds, engine, tuning=tuning)
    known = variant.channel_statistics(groups)
    planner = Planner(analysis.typing, PlanSettings("reconstruct", "auto", statistics=known, tuning=tuning))
    plans = [planner.plan(group, group.size // 2) for group in groups]
    matrices = {type(z) for plan in plans for z in plan.mixing.values()}
    return apply_plans(analysis.typing, plans), unshrunk_twin(analysis.typing, plans), matrices


def test_of_few_samples_of_many_channels_no_matrix_of_pairs_is_made():
    """The model is the same, and the twin its exact equal."""
    x = np.random.default_rng(4).standard_normal((9, 6)).astype(np.float32)
    wanted, _, matrices = planned(32, few=False)
    assert LowRankUpdate not in matrices
    shrunk_model, twin, matrices = planned(32, few=True)
    assert matrices == {LowRankUpdate}
    np.testing.assert_allclose(run(shrunk_model, {"x": x}), run(wanted, {"x": x}), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(shrunk_model, {"x": x}), run(twin, {"x": x}), rtol=1e-5, atol=1e-6)
    assert LowRankUpdate not in planned(64, few=True)[2]
