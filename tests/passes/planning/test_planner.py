"""Plans of a group: redundant channels go first, and statistics decide where there are any."""

import numpy as np
import pytest
from netkit import net
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.channels.covariance import DenseCovariance
from passes.channels.statistics import TensorStatistics
from passes.interface.reason import planned, text
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner, keep_ratio

BODY = "net (float[N,3] x) => (float[N,2] y) { a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v) }"
W = np.float32([[3, 0, 0], [0, 2, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0, 4, 0], [0, 0, 0]])
"""Channel 1 and its double, channel 4, are redundant to each other; channel 5 is dead."""
B = np.zeros(6, np.float32)


def planner_of(statistics=None, w=W, body=BODY, **settings):
    """The planner and its groups, the one that may shrink first."""
    found = analyse(net(body, w=w, b=B[: len(w)], v=(2, len(w))), (), None, Quiet())
    groups = sorted(found.groups, key=lambda g: g.frozen is not None)
    known = {groups[0].name: statistics} if statistics else {}
    return Planner(found.typing, PlanSettings(statistics=known, **settings)), groups


def spread(*variances, mean=0.0, without=None):
    """Statistics of channels that vary alone."""
    size = len(variances)
    return {
        "r": TensorStatistics(np.full(size, mean), DenseCovariance(np.diag(np.float64(variances))), without=without)
    }


def test_plans_of_whole_groups_have_a_reason():
    planner, groups = planner_of()
    free, frozen = planner.plans(groups, {}, keep_ratio(0.5))
    assert len(free.keep) == 3 and free.shrinks
    assert frozen.reason == groups[1].frozen and len(frozen.keep) == 2
    (whole,) = planner.plans(groups[:1], {groups[0].name: planned("asked for")}, keep_ratio(0.5))
    assert (text(whole.reason), whole.keep.tolist(), whole.method) == ("asked for", list(range(6)), "none")
    assert text(planner.plan(groups[0], 6).reason) == "6 channels are to be kept"


def test_a_share_is_rounded_up_to_a_channel():
    group = planner_of()[1][0]
    assert [keep_ratio(ratio)(group) for ratio in (1e-6, 1 / 6, 0.17, 0.5, 1.0)] == [1, 1, 2, 3, 6]


@pytest.mark.parametrize("method", ["merge", "prune", "reconstruct"])
def test_redundant_channels_go_first(method):
    planner, (group, _) = planner_of(method=method)
    one, both, more = (planner.plan(group, width) for width in (5, 4, 3))
    assert one.method == both.method == "lossless" and more.method == ("prune" if method == "prune" else "merge")
    assert set(one.keep) > set(both.keep) > set(more.keep) and {0, 2, 3} <= set(both.keep.tolist())
    exact = planner.lossless(group)
    assert exact.method == "lossless" and exact.keep.tolist() == both.keep.tolist()


def test_lossless_keeps_a_group_without_redundant_channels():
    planner, (group, _) = planner_of(w=W[:4])
    plan = planner.lossless(group)
    assert not plan.shrinks and text(plan.reason) == "no channel is free"


def test_without_statistics_weights_decide_and_the_plan_says_why():
    planner, (group, _) = planner_of(method="reconstruct", select="auto", w=W[:4])
    plan = planner.plan(group, 2)
    assert (plan.keep.tolist(), plan.method) == ([0, 1], "merge")  # of the largest norms
    assert text(plan.reason) == "merged only: samples do not show them in r"
    pruned, (same, _) = planner_of(method="prune", select="auto", w=W[:4])
    assert pruned.plan(same, 2).reason is None


def test_statistics_choose_and_predict():
    planner, (group, _) = planner_of(
        spread(1e-6, 1.0, 1e-6, 1.0, mean=3.0), method="reconstruct", select="auto", w=W[:4]
    )
    plan = planner.plan(group, 2)
    assert (plan.keep.tolist(), plan.method, plan.reason) == ([1, 3], "reconstruct", None)
    np.testing.assert_allclose(plan.mixing["r"].toarray(), np.eye(4)[:, [1, 3]], atol=1e-9)
    np.testing.assert_allclose(plan.constants["r"], [3, 0, 3, 0], atol=1e-9)  # what is lost is a constant


def test_a_criterion_that_was_asked_for_chooses_whatever_samples_show():
    planner, (group, _) = planner_of(spread(1e-6, 1.0, 1e-6, 1.0), method="reconstruct", select="l1", w=W[:4])
    plan = planner.plan(group, 2)
    assert (plan.keep.tolist(), plan.method) == ([0, 1], "reconstruct")


def test_a_ranking_grows_with_what_is_asked_of_it_and_is_kept():
    planner, (group, _) = planner_of(spread(4.0, 3.0, 2.0, 1.0), w=W[:4])
    short, whole = planner.ranking(group, 2), planner.ranking(group)
    assert len(short.order) == 2 and whole.order[:2].tolist() == short.order.tolist()
    assert sorted(whole.order.tolist()) == [0, 1, 2, 3] and planner.ranking(group, 3) is whole
    assert whole.lost[0] == 1 and whole.lost[4] == pytest.approx(0, abs=1e-9) and (np.diff(whole.lost) < 0).all()


def test_redundant_channels_are_not_ranked():
    planner, (group, _) = planner_of()
    assert len(planner.ranking(group).order) == 4


def test_losses_are_planned_without_the_samples_that_they_are_measured_on():
    other = spread(0.1, 0.2, 3.0, 4.0)["r"]
    planner, (group, _) = planner_of(spread(4.0, 3.0, 0.2, 0.1, without=other), w=W[:4])
    alone, (same, _) = planner_of({"r": other}, w=W[:4])
    assert planner.unbiased.ranking(group).order.tolist() == alone.ranking(same).order.tolist()
    assert planner.unbiased.ranking(group).order.tolist() != planner.ranking(group).order.tolist()
    shared, (group, _) = planner_of(spread(4.0, 3.0, 0.2, 0.1), w=W[:4])
    assert shared.unbiased.ranking(group) is shared.ranking(group)


def test_hidden_units_are_ranked_by_what_they_give():
    """The units' own weights and those of the reader, with unit 2 the largest and unit 0 hardly read."""
    body = """net (float[S,1,2] x) => (float[S,1,1,5] y) {
        h, last = RNN<hidden_size=3>(x, w, r)  y = MatMul(h, v)
    }"""
    w, v = np.ones((1, 3, 2), np.float32) * np.float32([[[1], [1], [3]]]), np.ones((3, 5), np.float32)
    v[0] = 0.1
    found = analyse(net(body, w=w, r=np.zeros((1, 3, 3), np.float32), v=v), (), None, Quiet())
    group = next(g for g in found.groups if g.recurrent and not g.frozen)
    for method in ("prune", "reconstruct"):
        planner = Planner(found.typing, PlanSettings(method, "auto"))
        assert planner.ranking(group).order.tolist() == [2, 1, 0]
        assert [planner.plan(group, width).keep.tolist() for width in (2, 1)] == [[1, 2], [2]]
    lost = planner.ranking(group).lost
    assert lost[0] == 1 and lost[3] == 0 and (np.diff(lost) < 0).all()


def test_hidden_units_are_ranked_by_their_power_on_samples():
    """Of equal weights, where samples show all tensors that are read; by the weights alone where one is missing."""
    body = """net (float[S,1,2] x) => (float[S,1,1,5] y, float[1,1,5] z) {
        h, last = RNN<hidden_size=3>(x, w, r)  y = MatMul(h, v)  z = MatMul(last, u)
    }"""
    w = np.ones((1, 3, 2), np.float32) * np.float32([[[3], [1.5], [1]]])
    v = np.ones((3, 5), np.float32)
    found = analyse(net(body, w=w, r=np.zeros((1, 3, 3), np.float32), v=v, u=v), (), None, Quiet())
    group = next(g for g in found.groups if g.recurrent and not g.frozen)
    shown = TensorStatistics(np.array([0.1, 0.0, 1.0]), DenseCovariance(np.diag([0.01, 0.5, 0.0])))
    for statistics, order in (({"h": shown, "last": shown}, [2, 1, 0]), ({"h": shown}, [0, 1, 2])):
        planner = Planner(found.typing, PlanSettings("reconstruct", "auto", statistics={group.name: statistics}))
        assert planner.ranking(group).order.tolist() == order


def test_what_only_norms_recorded_is_redundant_where_loss_is_allowed():
    """A channel whose recorded spread is lost in rounding goes first, but not without loss."""
    body = """net (float[N,3] x) => (float[N,2] y) {
        a = Gemm<transB=1>(x, w)  n = BatchNormalization(a, s, t, m, d)  r = Relu(n)  y = Gemm<transB=1>(r, v)
    }"""
    w, scale = np.float32([[1, 0, 0], [0, 9, 0], [0, 0, 1]]), np.float32([1, 1e-12, 1])
    norm = dict(s=scale, t=np.float32([1, 0, 1]), m=np.zeros(3, np.float32), d=np.ones(3, np.float32))
    found = analyse(net(body, w=w, v=(2, 3), **norm), (), None, Quiet())
    group = next(g for g in found.groups if not g.frozen)
    planner = Planner(found.typing, PlanSettings("prune", "l1", norms=found.folded.norms))
    assert planner.plan(group, 2).method == "lossless" and planner.plan(group, 2).keep.tolist() == [0, 2]
    assert not planner.lossless(group).shrinks
