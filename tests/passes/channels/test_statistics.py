"""Channel statistics are shrunk by the number of independent samples."""

import numpy as np
import pytest
from netkit import engine, net, observer
from unitkit import Quiet

from passes.allocation.losses import Losses
from passes.analysis.analyse import analyse
from passes.numerics.shrinkage import independent_samples, shrunk, shrunk_toward
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.statistics_tuning import StatisticsTuning
from passes.settings.tuning import TUNING
from passes.statistics.moments import channel_sums, halves_of
from passes.statistics.segmented_execution import SegmentedRun

POOLED = """net (float[N,6,4,4] x) => (float[N,5] y) {
    a = Conv(x, a_w)  ar = Relu(a)  p = GlobalAveragePool(ar)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w)
}"""
SIZES = dict(a_w=(24, 6, 1, 1), y_w=(5, 24))
ROWS = [(0, 1, 1)]


def found(model, x, batch):
    """(variant, groups that may shrink, planner)."""
    analysis = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in analysis.groups if not group.frozen]
    variant = WeightVariant(analysis.typing, [{"x": x[i : i + batch]} for i in range(0, len(x), batch)], engine)
    settings = PlanSettings(
        "reconstruct", "auto", norms=analysis.folded.norms, statistics=variant.channel_statistics(live)
    )
    return variant, live, Planner(analysis.typing, settings)


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6, 4, 4)).astype(np.float32)


def maps(variant, x):
    return np.maximum(np.einsum("oi,nihw->nohw", weights(variant)[:, :, 0, 0], x), 0)


def test_behind_a_pooling_a_sample_counts_once():
    variant, live, _ = found(net(POOLED, **SIZES), images(40), 10)
    (seen,) = variant.channel_statistics(live)["a"].values()
    assert 0.8 * 40 <= seen.independent <= 40
    places = maps(variant, images(40)).transpose(0, 2, 3, 1).reshape(40, 16, 24).astype(np.float64)
    spread = np.cov(places.reshape(-1, 24).T, bias=True)
    before = shrunk(spread, independent_samples(np.trace(spread), 640, places.mean(1)))
    wanted = shrunk_toward(np.cov(places.mean(1).T, bias=True), seen.independent, before)
    np.testing.assert_allclose(seen.covariance.dense(), wanted, rtol=1e-4, atol=1e-6)


def weights(variant):
    return variant.typing.graph.array("a_w")


def test_a_group_is_not_free_because_samples_are_few():
    """Eight samples span seven dimensions of 24 channels."""
    _, (group,), planner = found(net(POOLED, **SIZES), images(8), 2)
    assert planner.ranking(group).lost[8] > 0.1


def test_samples_that_losses_are_measured_on_are_not_planned_by():
    x = images(40)
    variant, (group,), planner = found(net(POOLED, **SIZES), x, 10)
    assert variant.apart == 1
    other, (same,), rest = found(net(POOLED, **SIZES), x[10:], 10)
    (seen,) = other.channel_statistics([same])["a"].values()
    (without,) = (s.without for s in variant.channel_statistics([group])["a"].values())
    assert without.independent == pytest.approx(seen.independent)
    np.testing.assert_allclose(without.covariance.dense(), seen.covariance.dense(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(planner.unbiased.plan(group, 9).keep, rest.plan(same, 9).keep)
    assert planner.unbiased.ranking(group) is not planner.ranking(group)


def test_where_samples_are_plenty_that_makes_no_difference():
    body = POOLED.replace("p = GlobalAveragePool(ar)", "p = Relu(ar)").replace("float[N,5] y", "float[N,5,4,4] y")
    body = body.replace("f = Flatten(p)  y = Gemm<transB=1>(f, y_w)", "y = Conv(p, y_w)")
    variant, (group,), planner = found(net(body, a_w=(4, 6, 1, 1), y_w=(5, 4, 1, 1)), images(40), 10)
    (seen,) = variant.channel_statistics([group])["a"].values()
    assert seen.independent >= 4 * TUNING.statistics.ample_samples and seen.without is None
    assert planner.unbiased.ranking(group) is planner.ranking(group)


def test_what_is_predicted_to_be_lost_is_what_fresh_samples_lose():
    model = net(POOLED, **SIZES)
    variant, (group,), planner = found(model, images(48), 8)
    predicted = Losses(planner, variant, 1).of([group])["a"]
    fresh = WeightVariant(variant.typing, [{"x": images(400, 1)}, {"x": images(400, 2)}], engine)
    lost = Losses(planner, fresh, 1).of([group])["a"]
    for width in (12, 18):
        assert 0.5 < predicted[width] / lost[width] < 2


@pytest.mark.parametrize(
    ("shape", "axis", "rows", "turn"),
    [
        ((4, 3, 5), 1, [(0, 1, 1)], "ncp->npc"),
        ((8, 3), 1, [(0, 1, 1)], "(np)c"),
        ((5, 4, 6), 2, [(0, 2, 1)], "pnc->npc"),
        ((8, 4, 3), 2, [(0, 1, 1)], "pnc->npc"),
    ],
)
def test_means_are_of_samples_wherever_they_stand(shape, axis, rows, turn):
    """On the first axis, alone or with others; on another one where the first is none of them."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (sums,) = channel_sums(axis, rows, 3, [x], [4], engine)
    each = x.reshape(4, -1, 3) if turn == "(np)c" else np.einsum(turn, x).reshape(4, -1, 3)
    np.testing.assert_allclose(sums.means, each.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums.first / sums.count, each.reshape(-1, 3).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("axis", "rows"), [(1, [(0, 1, 1)]), (3, [(0, 1, 1)]), (1, [(0, 2, 2)]), (1, [(3, 1, 1)])])
def test_of_many_places_every_few_of_each_sample_serve(axis, rows):
    """But all of them for the samples' means."""
    channels = 12
    x = np.random.default_rng(0).standard_normal((4, 7, 9, channels)).astype(np.float32)
    given = x if axis == 3 else np.moveaxis(x, 3, 1)
    tuning = StatisticsTuning(channel_places=0, fewest_channel_places=80)
    (whole,), (some,) = (
        list(channel_sums(axis, rows, 3, [given], [4], engine, t)) for t in (TUNING.statistics, tuning)
    )
    ((start, outer, inner),) = rows
    flat = x.reshape(4, 63, channels)[:, ::3, start : start + 3 * outer * inner]
    used = flat.reshape(-1, outer, 3, inner).swapaxes(1, 2).reshape(-1, 3, outer * inner).swapaxes(1, 2).reshape(-1, 3)
    assert some.count == len(used) < whole.count
    np.testing.assert_allclose(some.first, used.sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(some.second, used.T @ used, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(some.means, whole.means, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("each", "wanted"), [(1, [0, 0, 1, 1, 0, 0]), (2, [0, 1, 0, 1, 0, 1]), (3, [0, 0, 1, 1, 0, 0])]
)
def test_an_image_and_its_mirror_image_are_in_one_half(each, wanted):
    batch = (np.zeros((each, 2)), np.zeros((each, 2)))
    assert halves_of([batch] * 6) == wanted
    assert halves_of([batch] * 2) == [0, 1]


def test_losses_are_measured_on_a_quarter():
    model = net(POOLED, **SIZES)
    analysis = analyse(model, (), observer, Quiet(), engine)
    for count, batches, apart in ((512, 16, 2), (64, 4, 1), (24, 4, 1), (9, 5, 2)):
        (variant,) = WeightVariants(
            analysis.before, analysis.typing, CalibrationSamples({"x": images(count)}, True, engine)
        )
        assert (len(variant.feeds), variant.apart) == (batches, apart)


def test_behind_a_pooling_the_map_before_tells_how_channels_vary_together():
    """Four samples of places without end that vary as they do: more of the truth than their averages alone."""
    model, few, many = net(POOLED, **SIZES), images(4), images(4000, 3)
    variant, (group,), _ = found(model, few, 2)
    pooled = [maps(variant, x).mean((2, 3)) for x in (few, many)]
    (seen,) = variant.channel_statistics([group])["a"].values()
    true, alone = np.cov(pooled[1].T), shrunk(np.cov(pooled[0].T, bias=True), 4)
    scaled = [s * np.trace(true) / np.trace(s) for s in (seen.covariance.dense(), alone)]
    off = [np.linalg.norm(s - true) for s in scaled]
    assert off[0] < 0.6 * off[1]
    assert seen.covariance.variances.sum() == pytest.approx(np.trace(alone), rel=1e-4)


def test_a_map_that_stays_is_looked_at_where_it_is():
    """It is read again behind its average, as in squeeze and excitation."""
    body = """net (float[N,6,4,4] x) => (float[N,5,4,4] y) {
        a = Conv(x, a_w)  ar = Relu(a)  p = GlobalAveragePool(ar)  s = Conv(p, s_w)  g = Sigmoid(s)
        m = Mul(ar, g)  y = Conv(m, y_w)
    }"""
    variant, live, _ = found(net(body, a_w=(24, 6, 1, 1), s_w=(24, 24, 1, 1), y_w=(5, 24, 1, 1)), images(8), 2)
    (group,) = live
    known = variant.channel_statistics(live)[group.name]
    assert set(known) == {"p", "m"} and known["p"].independent < known["m"].independent


def test_a_glance_leaves_nothing_behind():
    variant, _, _ = found(net(POOLED, **SIZES), images(8), 4)
    flow = SegmentedRun(variant.typing.graph.model, variant.feeds, engine)
    flow.reach("a")
    before = [set(live) for live in flow.live]
    seen = list(flow.glance("p"))
    assert [set(live) for live in flow.live] == before
    flow.reach("p")
    for one, live in zip(seen, flow.live, strict=True):
        np.testing.assert_array_equal(one, live["p"])
    assert list(flow.glance("p"))[0] is flow.live[0]["p"]
    flow.reach("y")
    assert flow.glance("a") is None
