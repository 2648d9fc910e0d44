"""The loss of the outputs with one group cut: segment by segment it equals that of whole runs of the cut model."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import engine, feeds, net, observer
from unitkit import Quiet

from passes.allocation.sensitivity import Sensitivity
from passes.analysis.analyse import analyse
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant
from passes.settings.allocation_tuning import SensitivityTuning
from passes.settings.tuning import TUNING
from passes.surgery.apply_plan import unshrunk_twin

EVERY = SensitivityTuning(robust=-1.0, fragile=np.inf)
"""Measures at every share."""


def known(model, count=8):
    """(variant of random samples in two batches, groups that may shrink, planner that knows what the samples show)."""
    found = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if not group.frozen]
    variant = WeightVariant(found.typing, [feeds(model, count // 2, seed) for seed in (1, 2)], engine)
    norms = found.folded.norms
    return (
        variant,
        live,
        Planner(
            found.typing, PlanSettings("reconstruct", "auto", norms=norms, statistics=variant.channel_statistics(live))
        ),
    )


RUNS = {name for name in ARCHITECTURES if not name.startswith(("qdq-float8", "qdq-int4", "qdq-uint4", "skl2onnx"))}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_what_one_group_loses_is_what_the_whole_model_loses_without_it(name):
    variant, live, planner = known(ARCHITECTURES[name].model)
    sensitivity = Sensitivity(variant, len(live))
    for group_name, losses in sensitivity.alone(planner, live).items():
        for width, loss in losses.items():
            whole = sensitivity.together(planner, live, {group_name: width})
            rough = {"rel": 0.1, "abs": 3e-5} if "float16" in name else {"rel": 1e-6, "abs": 1e-10}  # rounding
            assert loss == pytest.approx(whole, **rough)


CHAIN = """net (float[N,6] x) => (float[N,5] y, float[N,3] z) {
    a = Gemm(x, a_w)  ar = Relu(a)  b = Gemm(ar, b_w)  br = Relu(b)  y = Gemm(br, y_w)  z = Gemm(ar, z_w)
}"""
SIZES = dict(a_w=(6, 12), b_w=(12, 8), y_w=(8, 5), z_w=(12, 3))


def test_it_is_noise_over_signal_averaged_over_the_outputs():
    variant, live, planner = known(net(CHAIN, **SIZES))
    plans = [planner.plan(group, {"a": 9, "b": 4}[group.name]) for group in live]
    models = (variant.typing.graph.model, unshrunk_twin(variant.typing, plans))
    exact, now = ([engine(m)(feed) for feed in variant.feeds[: variant.apart]] for m in models)
    wanted = []
    for name in ("y", "z"):
        whole, cut = (np.concatenate([f[name] for f in found]).astype(np.float64) for found in (exact, now))
        whole, cut = whole - whole.mean(0), cut - cut.mean(0)
        explained = np.corrcoef(whole.ravel(), cut.ravel())[0, 1] ** 2
        wanted.append(1 / explained - 1)
    together = Sensitivity(variant, 2).together(planner, live, {"a": 9, "b": 4})
    assert together == pytest.approx(np.mean(wanted), rel=1e-6) and together > 0
    assert Sensitivity(variant, 2).together(planner, live, {}) == 0


def test_an_output_before_the_group_loses_nothing():
    variant, live, planner = known(net(CHAIN, **SIZES))
    alone = Sensitivity(variant, len(live), EVERY).alone(planner, live)
    assert set(alone["a"]) == {9, 6, 3, 2} and set(alone["b"]) == {6, 4, 2, 1}
    body = CHAIN.replace(", float[N,3] z", "").replace("z = Gemm(ar, z_w)", "")
    variant, live, planner = known(net(body, **{n: s for n, s in SIZES.items() if n != "z_w"}))
    without = Sensitivity(variant, len(live), EVERY).alone(planner, live)["b"]
    assert alone["b"] == pytest.approx({width: loss / 2 for width, loss in without.items()})


def test_outputs_that_do_not_vary_do_not_count():
    """Whose share of nothing would be no number."""
    variant, live, planner = known(net(CHAIN, **{**SIZES, "z_w": np.zeros((12, 3), np.float32)}))
    alone = Sensitivity(variant, len(live)).alone(planner, live)
    body = CHAIN.replace(", float[N,3] z", "").replace("z = Gemm(ar, z_w)", "")
    variant, live, planner = known(net(body, **{n: s for n, s in SIZES.items() if n != "z_w"}))
    assert alone["b"] == Sensitivity(variant, len(live)).alone(planner, live)["b"]


def test_where_runs_are_dear_fewer_widths_and_samples_are_measured():
    variant, live, _ = known(net(CHAIN, **SIZES), count=256)
    of = Sensitivity(variant, len(live))
    assert of.shares == TUNING.sensitivity.shares and sum(len(f["x"]) for f in of._feeds) == 64
    of = Sensitivity(variant, len(live), SensitivityTuning(multiply_adds=1.0))
    assert of.shares == (0.5,) and sum(len(f["x"]) for f in of._feeds) == 8


EARLY = """net (float[N,6,4,4] x) => (float[N,3,4,4] early, float[N,5,4,4] y) {
    a = Conv(x, a_w)  ar = Relu(a)  early = Conv(ar, early_w)  b = Conv(ar, b_w)  br = Relu(b)
    c = Conv(br, c_w)  cr = Relu(c)  y = Conv(cr, y_w)
}"""
EARLY_SIZES = dict(a_w=(12, 6, 1, 1), early_w=(3, 12, 1, 1), b_w=(12, 12, 1, 1), c_w=(8, 12, 1, 1), y_w=(5, 8, 1, 1))


def test_an_output_that_nothing_reads_is_not_made_again():
    variant, live, planner = known(net(EARLY, **EARLY_SIZES))
    sensitivity = Sensitivity(variant, len(live))
    found = sensitivity.alone(planner, live)
    assert found["c"][4] == pytest.approx(sensitivity.together(planner, live, {"c": 4}), rel=1e-6)


def test_outputs_in_blocks_lose_the_same():
    variant, live, planner = known(net(EARLY, **EARLY_SIZES))
    whole = Sensitivity(variant, len(live)).together(planner, live, {"a": 5})
    blocked = Sensitivity(variant, len(live), SensitivityTuning(block=24))
    assert blocked.together(planner, live, {"a": 5}) == pytest.approx(whole, rel=1e-12)
