"""Which rate of the gradient steps is taken, and which weights, on a loss that is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from passes.numerics.muon import MatrixForm
from passes.reconstruction import gradient_steps
from passes.reconstruction.gradient_steps import Descent, Refinement
from passes.reconstruction.step_sizes import StepSizes
from passes.settings.distillation_tuning import DistillationTuning

TARGET = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


class Bowl:
    """A quadratic loss about ``target``, each batch with an error of its own, of which the mean is the loss."""

    spreads: dict[str, float] = {}

    def __init__(self, target=TARGET, noise=0.0):
        errors = np.random.default_rng(0).standard_normal((8, *target.shape)).astype(np.float32)
        self.target, self.errors, self.taken = target, noise * (errors - errors.mean(0)), []

    def slopes(self, indices, values, feature_weight):
        self.taken += indices
        for index in indices:
            yield {"w": feature_weight * (values["w"] - self.target - self.errors[index])}

    def measured(self, indices, values):
        return float(np.square(values["w"] - self.target).mean())


def refinement(loss, start=0.0, matrices=False, **changes):
    weights = np.full(TARGET.shape, start, np.float32)
    student = SimpleNamespace(values={"w": weights}, layers=[None])
    sizes = StepSizes({"w": np.full((3, 1), 0.5, np.float32)}, {"w": MatrixForm(0)} if matrices else {})
    return Refinement(student, loss, sizes, range(6), range(6, 8), 1, 1.0, DistillationTuning(**changes))


@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("rates", [(1e6, 0.3), (0.3, 1e-6), (1e6, 0.3, 1e-6)])
def test_the_rate_that_leads_farthest_is_taken(rates, matrices):
    values, ratio = refinement(Bowl(), matrices=matrices, rates=rates).result(100)
    assert ratio < 0.02 and np.abs(values["w"] - TARGET).max() < 0.1


@pytest.mark.parametrize(("slower_gain", "taken"), [(1e9, 0.1), (0.0, 0.05)])
def test_a_smaller_rate_must_gain_far_more(monkeypatch, slower_gain, taken):
    """The larger one gains more later: its noise falls with it."""
    runs = []

    def begun(*given):
        runs.append(Descent(*given))
        return runs[-1]

    monkeypatch.setattr(gradient_steps, "Descent", begun)
    loss = Bowl(noise=1.0)
    refinement(loss, rates=(0.1, 0.05), slower_gain=slower_gain, last_rate=0.5).result(60)
    size = np.sqrt(np.square(TARGET).mean())
    assert [run.rate / size for run in runs] == pytest.approx([0.1, 0.05, 0.5 * taken])  # two begun, the last steps
    assert len(loss.taken) == 60 + 20 + 15


def test_weights_that_gain_little_are_left():
    """Layers are solved on all samples then."""
    first = refinement(Bowl(), start=TARGET + 0.01 * np.sign(TARGET), rates=(1e-4,))
    values, ratio = first.result(50)
    assert ratio == 1.0 and np.array_equal(values["w"], TARGET + np.float32(0.01) * np.sign(TARGET))


def test_a_gain_that_is_lost_again_is_none():
    """What samples gain on the way is chance, or too close a fit, where nothing of it is left at the end."""
    loss, judged = Bowl(), iter([1.0, 0.9, 0.95, 0.97, 0.99, 0.9, 0.95])
    loss.measured = lambda *_: next(judged)
    values, ratio = refinement(loss, rates=(0.3,)).result(60)
    assert ratio == 1.0 and not values["w"].any()
    lasting, judged = Bowl(), iter([1.0, 0.9, 0.95, 0.97, 0.96, 0.95, 0.95, 0.8])
    lasting.measured = lambda *_: next(judged)
    values, ratio = refinement(lasting, rates=(0.3,)).result(60)
    assert ratio == 0.9 and values["w"].any()


def test_nothing_is_run_where_every_rate_leads_away():
    loss = Bowl()
    values, ratio = refinement(loss, rates=(1e6, 1e5)).result(100)
    assert ratio == 1.0 and not values["w"].any()
    assert len(loss.taken) == 2 * 9  # a quarter of a third of the steps shows it


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_no_loss_to_begin_with(value):
    loss = Bowl()
    loss.measured = lambda *_: value
    values, ratio = refinement(loss).result(10)
    assert ratio == 1.0 and not loss.taken and not values["w"].any()


def test_the_mean_is_that_of_the_second_half():
    given = {"w": np.zeros((3, 4), np.float32)}, StepSizes({"w": np.float32(1)}), 0.1, 8, range(6), 1, 1.0
    run = Descent(Bowl(), *given)
    seen = []
    for end in range(1, 5):
        run.advance(end)
        seen.append(run.values["w"].copy())
    again = Descent(Bowl(), *given)
    np.testing.assert_allclose(again.advance(4)["w"], (seen[2] + seen[3]) / 2, rtol=1e-6)
    assert np.array_equal(again.values["w"], seen[3])
