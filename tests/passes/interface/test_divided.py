"""Parts of a batch that run at the same time give the results that they give one by one."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import array_of, engine, feeds, net, observer
from unitkit import Quiet

from passes.allocation import sensitivity
from passes.analysis.analyse import analyse
from passes.interface.engine import share_threads
from passes.numerics.tuning import NUMERICS, ParallelTuning
from passes.pipeline import compress
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction import step_schedule
from passes.reconstruction.layerwise import solve_layers
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.matched_samples import matched_samples
from passes.settings.compress import CompressSettings
from passes.settings.distillation_tuning import DistillationTuning
from passes.settings.tuning import TUNING

BODY = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w)  an = BatchNormalization(a, scale, bias, mean, variance)  ar = Relu(an)
    b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)  y = Conv(br, y_w, y_b)
}"""
NORM = dict(scale=np.ones(12), bias=np.zeros(12), mean=np.linspace(-1, 1, 12), variance=np.linspace(3, 9, 12))
SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 3, 3), b_b=(16,), y_w=(5, 16, 1, 1), y_b=(5,))


class Divided:
    """An engine that may run models at the same time."""

    def __init__(self):
        self.asked = []

    def __call__(self, model):
        return engine(model)

    def share_threads(self, most):
        self.asked.append(most)
        return self, min(most, 3)


@pytest.fixture
def model():
    return net(BODY, 17, **SIZES, **{name: value.astype(np.float32) for name, value in NORM.items()})


@pytest.fixture
def small_parts(monkeypatch):
    for module in (sensitivity, step_schedule):
        monkeypatch.setattr(module, "NUMERICS", replace(NUMERICS, parallel=ParallelTuning(1.0)))


def test_of_engines_that_cannot_one_model_runs():
    assert share_threads(engine, 8) == (engine, 1)


def test_moved_samples(model):
    before = analyse(model, (), None, Quiet(), engine)
    parts = [feeds(model, 4, seed) for seed in range(5)]
    limits = replace(TUNING.matching, batch=4, least_gain=1.0, unfit=10.0)

    def moved(run, memory=1e9):
        return matched_samples(before.before, before.typing.graph, parts, run, memory, limits).feeds

    run = Divided()
    for one, other in zip(moved(engine), moved(run), strict=True):
        assert not np.array_equal(one["x"], parts[0]["x"]) and np.array_equal(one["x"], other["x"])
    moved(run, memory=1.0)
    assert run.asked == [5]  # where memory holds one batch, nobody is asked


TURNED = """net (float[N,6,8] x) => (float[6,N,4] y) {
    t = Transpose<perm=[1,0,2]>(x)  a = MatMul(t, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)
    y = MatMul(br, y_w)
}"""


@pytest.mark.parametrize("turned", [False, True], ids=["samples as rows", "samples on the second axis"])
def test_measured_losses(model, small_parts, turned):
    model = net(TURNED, 17, a_w=(8, 16), b_w=(16, 12), y_w=(12, 4)) if turned else model
    found = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if not group.frozen]

    def losses(run):
        variant = WeightVariant(found.typing, [feeds(model, 7, seed) for seed in (1, 2)], run)
        settings = PlanSettings("reconstruct", "auto", statistics=variant.channel_statistics(live))
        measure = sensitivity.Sensitivity(variant, len(live))
        return measure.alone(Planner(found.typing, settings), live)

    run = Divided()
    one, other = losses(engine), losses(run)
    assert len(one) == 2 and run.asked
    for name, at in one.items():
        assert at and min(at.values()) > 0
        assert other[name] == pytest.approx(at, rel=1e-5)


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("together", [4, 9, 16])
def test_the_parts_of_a_step_fit_into_memory_together(workers, together):
    """As many samples as there were, or a few less, are drawn in a step."""
    schedule = step_schedule.StepSchedule(100, 4, 4, 1, 16, together)
    found = schedule.split_for_workers(min(workers, together))
    assert workers == 1 or found.batch * min(workers, together) <= together
    assert found.batch <= 4 and 13 <= found.batch * found.joined <= 16


def test_solved_layers(model):
    found = analyse(model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if not group.frozen]

    def solved(run, workers):
        parts = [feeds(model, 6, seed) for seed in range(6)]
        variant = WeightVariant(found.typing, parts, run, moment_limit=1e9, joined=3, workers=workers)
        settings = PlanSettings("reconstruct", "auto", statistics=variant.channel_statistics(live))
        planner = Planner(found.typing, settings)
        return solve_layers(variant, [planner.plan(group, group.size // 2) for group in live])

    run = Divided()
    one, other = solved(engine, 1), solved(run, 2)
    assert len(run.asked) > 10 and max(run.asked) == 2
    for name, weights in one.weights.items():
        np.testing.assert_allclose(other.weights[name], weights, rtol=1e-3, atol=1e-4)
    assert other.errors == pytest.approx(one.errors, rel=1e-3)


def test_refined_layers(model, small_parts):
    """Steps learn from the same number of samples, drawn otherwise: the outputs come as near."""
    new = feeds(model, 64, seed=9)
    exact = engine(model)(new)["y"]
    tuning = replace(TUNING, distillation=DistillationTuning(steps=(200, 200)))

    def error(run, effort="medium"):
        samples = CalibrationSamples(feeds(model, 64, seed=1), True, run)
        settings = CompressSettings(keep=0.5, method="reconstruct", select="auto", effort=effort)
        result = compress(model, settings, samples=samples, tuning=tuning)
        return np.linalg.norm(engine(result.model)(new)["y"] - exact), array_of(result.model, "b_w")

    run = Divided()
    (alone, _), (apart, weights), (low, unrefined) = error(engine), error(run), error(engine, "low")
    assert run.asked and not np.array_equal(weights, unrefined)
    assert abs(apart - alone) < 0.25 * abs(low - alone) + 0.005 * low
