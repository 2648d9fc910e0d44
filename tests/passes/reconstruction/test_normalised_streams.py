"""Residual streams that norms read: mixtures take the place of the channels, and the norms go on as before."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import engine, net, observer
from normkit import CENTRED, HIDDEN, KINDS, LAYER, TOKENS, prenorm, thin, tokens

from passes.allocation.losses import Losses
from passes.analysis.analyse import analyse
from passes.compress import scope
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.interface.runner import StageTimer
from passes.pipeline import compress
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.student import outputting, student_of
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.blocks import Blocks
from passes.settings.compress import CompressSettings
from passes.settings.target import Target
from passes.settings.tuning import TUNING
from passes.surgery.apply_plan import Solution, unshrunk_twin

ALLOCATED = dict(keep=0.5, allocation="auto")


def reconstruct(model, kept=0.5, method="reconstruct", samples=True, **settings):
    """``model`` with a share ``kept`` of the stream's channels."""
    chosen = CompressSettings(
        **{"keep": 1.0, "keep_layers": (("^e$", kept),), "method": method, "select": "auto", **settings}
    )
    return compress(model, chosen, samples=CalibrationSamples(tokens(64), True, engine) if samples else None)


def run(model, feeds):
    return engine(model)(feeds)["y"]


def macs(model):
    return cost(Graph(model)).macs


def stream(result):
    return next(plan for plan in result.plans if plan.group.name == "e")


@pytest.mark.parametrize(("op", "biased"), KINDS)
@pytest.mark.parametrize("draft", [False, True])
def test_the_projected_model_equals_its_twin(op, biased, draft):
    model = prenorm(op, biased)
    result = reconstruct(model, draft=draft)
    plan = stream(result)
    assert plan.method == "reconstruct" and plan.projection.shape == (6, 12)
    shapes = {t.name: [*t.dims] for t in result.model.graph.initializer}
    assert shapes["table"] == [TOKENS, 6] and shapes["s1"] == [6] and shapes["u_w0"] == [6, HIDDEN]
    whole, small, twin = (run(m, tokens(64)) for m in (model, result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())
    assert np.square(small - whole).sum() < 0.7 * np.square(whole - whole.mean()).sum()


@pytest.mark.parametrize("kept", [1, 2, 11])
def test_any_width_equals_its_twin(kept):
    result = reconstruct(prenorm(), kept / 12)
    assert len(stream(result).keep) == kept
    small, twin = (run(m, tokens(9, seed=4)) for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


@pytest.mark.parametrize(("op", "biased"), KINDS)
def test_a_stream_of_few_dimensions_loses_nothing(op, biased):
    """All that is written lies in the dimensions that six channels hold: the outputs are the same without any layer
    solved."""
    model = prenorm(op, biased, **thin(op))
    result = reconstruct(model, draft=True)
    assert len(stream(result).keep) == 6
    whole, small = (run(m, tokens(64, seed=5)) for m in (model, result.model))
    np.testing.assert_allclose(small, whole, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize(("op", "biased"), KINDS)
def test_a_student_mimics_what_its_norms_are_to_give(op, biased):
    """Its norms have other scales and biases: where nothing is lost, they give what the original's are taken for."""
    model = prenorm(op, biased, **thin(op))
    result = reconstruct(model, draft=True)
    student = student_of(result.typing, result.plans, Solution())
    names = ["n0", "n1", "n2", "x1", "r1"]
    exact, given = (engine(outputting(m, names))(tokens(8)) for m in (model, student.model))
    for name in names:
        wanted = student.kept(name, exact[name])
        if name == "x1":  # a mean that the norms take away
            wanted, given[name] = (a - a.mean(-1, keepdims=True) if op in CENTRED else a for a in (wanted, given[name]))
        np.testing.assert_allclose(given[name], wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "head", ["h = Mul(n2, two)  y = MatMul(h, y_w)", "h = Div(n2, two)  m = MatMul(h, y_w)  y = Add(m, y_b)"]
)
def test_a_factor_behind_a_norm_is_kept(head):
    """As in front of the last layer of T5. The reader without a bias gets what is constant from the norm's bias."""
    model = prenorm(head=head, **thin(LAYER), y_b=(7,))
    result = reconstruct(model, draft=True)
    student = student_of(result.typing, result.plans, Solution())
    whole, small = (run(m, tokens(64, seed=5)) for m in (model, result.model))
    np.testing.assert_allclose(small, whole, atol=1e-4 * np.abs(whole).max())
    exact, given = (engine(outputting(m, ["h"]))(tokens(8))["h"] for m in (model, student.model))
    np.testing.assert_allclose(given, student.kept("h", exact), atol=1e-4 * np.abs(given).max())


def test_losses_are_spread_over_the_stream_within_the_budget_of_the_other_groups():
    """A thin stream costs nothing to cut, the hidden units do."""
    model = prenorm(**thin(LAYER))
    even = reconstruct(model, method="prune", keep=0.5, keep_layers=(), allocation="uniform", samples=False)
    result = reconstruct(model, keep_layers=(), **ALLOCATED)
    assert len(stream(even).keep) == 12 and len(stream(result).keep) < 12
    assert macs(result.model) <= 1.02 * macs(even.model)
    hidden = [len(plan.keep) for plan in result.plans if plan.group.size == HIDDEN]
    assert sum(hidden) > HIDDEN


@pytest.mark.parametrize(("effort", "asked"), [("low", 0), ("medium", 2)])
@pytest.mark.parametrize("better", ["whole", "cut"])
def test_the_stream_shrinks_only_where_that_loses_less_with_layers_solved(monkeypatch, better, effort, asked):
    asks = list[int]()

    def solved(self, groups, widths):
        asks.append(widths["e"])
        return float((widths["e"] == 12) == (better == "cut"))

    monkeypatch.setattr(Losses, "solved", solved)
    result = reconstruct(prenorm(**thin(LAYER)), keep_layers=(), effort=effort, **ALLOCATED)
    assert (len(stream(result).keep) == 12) == (better == "whole" and effort == "medium")
    assert len(asks) == asked and (not asks or {n == 12 for n in asks} == {False, True})


def test_solved_layers_lose_nothing_of_a_thin_stream():
    model = prenorm(**thin(LAYER))
    found = analyse(model, (), observer, StageTimer(lambda stage: None))
    variant = next(iter(WeightVariants(found.before, found.typing, CalibrationSamples(tokens(64), True, engine))))
    live = [group for group in found.groups if not group.frozen]
    settings = PlanSettings("reconstruct", "auto", statistics=variant.channel_statistics(live))
    losses = Losses(Planner(found.typing, settings), variant, len(live))
    assert losses.solved(live, {"e": 6}) is None  # before anything is measured
    losses.of(live)
    hidden = next(group.name for group in live if group.size == HIDDEN)
    assert losses.solved(live, {"e": 6}) < 1e-6 < losses.solved(live, {"e": 6, hidden: 6}) < 1


def test_a_target_is_met_by_the_stream_too():
    """Equal shares leave the stream whole."""
    model, target = prenorm(**thin(LAYER)), Target("macs", 0.4)
    result = reconstruct(model, keep_layers=(), allocation="auto", target=target, blocks=Blocks(8, strict=False))
    assert len(stream(result).keep) < 12
    assert macs(result.model) == pytest.approx(0.4 * macs(model), rel=target.near)


@pytest.mark.parametrize(
    "settings",
    [
        dict(method="prune", samples=False),
        dict(method="merge", samples=False),
        dict(select="l1"),
        dict(keep_layers=(), keep=0.5, allocation="uniform"),
        dict(lossless=True),
    ],
)
def test_without_losses_on_samples_the_stream_stays_whole(settings):
    plan = stream(reconstruct(prenorm(**thin(LAYER)), **settings))
    assert len(plan.keep) == 12
    if "allocation" not in settings:
        assert str(plan.reason) == "n0 (LayerNormalization) normalises over it"


def test_a_stream_alone_shrinks_by_the_share_itself():
    """There is no other group whose multiply-adds could be the budget."""
    body = "net (float[N,6] x) => (float[N,4] y) { a = Gemm(x, w)  n = LayerNormalization(a, s)  y = Gemm(n, v) }"
    model = net(body, 17, w=(6, 16), v=(16, 4), s=(16,))
    samples = CalibrationSamples({"x": np.random.default_rng(0).standard_normal((64, 6), np.float32)}, True, engine)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto", allocation="auto")
    plan = compress(model, settings, samples=samples).plans[0]
    assert len(plan.keep) == 8 and plan.projection is not None


def test_wide_streams_stay_whole_and_are_not_observed(monkeypatch):
    """Matrices of all pairs of channels would take too long."""
    numerics = replace(TUNING.numerics, subset=replace(TUNING.numerics.subset, most_greedy=11))
    monkeypatch.setattr(scope, "TUNING", replace(TUNING, numerics=numerics))
    result = reconstruct(prenorm(**thin(LAYER)), keep=0.5)
    assert len(stream(result).keep) == 12
    assert str(stream(result).reason) == "n0 (LayerNormalization) normalises over it"


def unread(model, channels):
    """``model`` with zeros in all weights that read the stream's ``channels``."""
    for t in model.graph.initializer:
        if t.name in ("u_w0", "u_w1", "y_w"):
            values = np.frombuffer(t.raw_data, np.float32).reshape(t.dims).copy()
            values[channels] = 0
            t.raw_data = values.tobytes()
    return model


@pytest.mark.parametrize("channels", [[3], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("draft", [False, True])
def test_channels_that_nothing_but_norms_reads_are_projected_too(channels, draft):
    """They are in the mean and in the length of the others."""
    result = reconstruct(unread(prenorm(), channels), 1 - len(channels) / 12, draft=draft)
    plan = stream(result)
    assert plan.method == "reconstruct" and len(plan.keep) == 12 - len(channels) and plan.projection is not None
    small, twin = (run(m, tokens(9)) for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-40])
def test_norms_that_give_nothing_are_borne(scale):
    tiny = np.full(12, scale, np.float32)
    result = reconstruct(prenorm(s0=tiny, s1=tiny, s2=tiny))
    assert len(stream(result).keep) == 6 and np.isfinite(run(result.model, tokens(9))).all()


@pytest.mark.parametrize(("method", "notes"), [("prune", 1), ("reconstruct", 0)])
def test_a_named_stream_that_stays_whole_is_noted(method, notes):
    result = reconstruct(prenorm(), method=method, keep=0.5, samples=method == "reconstruct")
    said = "e keeps all of its 12 channels: n0 (LayerNormalization) normalises over it"
    assert [note for note in result.notes if note == said] == [said] * notes


def test_scales_of_zero_are_borne():
    """A norm that gives nothing of some channels says nothing of them."""
    scale = np.ones(12, np.float32)
    scale[[2, 7]] = 0
    result = reconstruct(prenorm(s0=scale, s1=np.zeros(12, np.float32)))
    small, twin = (run(m, tokens(9)) for m in (result.model, result.twin()))
    assert np.isfinite(small).all()
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())


def test_losses_are_measured_with_the_writers_projected():
    """A norm takes the length of what stays: unlike linear layers, it cannot be shown the whole stream."""
    result = reconstruct(prenorm(), draft=True)
    twin = unshrunk_twin(result.typing, [stream(result)])
    table = next(t for t in twin.graph.initializer if t.name == "table")
    assert np.count_nonzero(np.frombuffer(table.raw_data, np.float32).reshape(TOKENS, 12).any(axis=0)) == 6
