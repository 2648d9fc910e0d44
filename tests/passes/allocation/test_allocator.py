"""How many channels each group keeps: what the user fixed stays fixed, and the outputs gain."""

import math

import numpy as np
import pytest
from allocatekit import NETS, chosen, compressed, costs, drafted, kept, left, model_of, samples_for
from netkit import array_of, ints, net, shape_of

from passes.allocation.losses import Losses
from passes.compress.scope import group_scope
from passes.interface.errors import RunError
from passes.pipeline import Compressor
from passes.settings.allocation_tuning import SensitivityTuning
from passes.settings.blocks import Blocks
from passes.settings.target import Target
from passes.settings.tuning import Tuning


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_as_much_goes_as_where_every_group_keeps_the_same(name, keep):
    model = model_of(name)
    auto, uniform = (left(model, drafted(model, keep=keep, allocation=how)) for how in ("auto", "uniform"))
    assert auto == pytest.approx(uniform, rel=0.05)


def test_shares_that_the_user_gave_win():
    result = drafted(model_of(), target=Target("macs", 0.5), keep_layers=(("^b$", 0.75),), exclude=("^c$",))
    found = kept(result)
    assert found["b"] == 24 and found["c"] == 20 and left(model_of(), result) == pytest.approx(0.5, rel=0.03)
    result = drafted(model_of(), keep=0.5, exclude_inputs=("^c$",))
    assert kept(result)["b"] == 32 and kept(result)["a"] < 24 and shape_of(result.model, "c_w")[1] == 32
    assert str(next(p for p in result.plans if p.group.name == "b").reason) == "read by what '^c$' excludes"
    found = kept(drafted(model_of("residual"), keep=0.5, coupled=False))
    assert found["a #2"] == 12 and found["b"] < 40


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_a_group_without_multiply_adds(allocation):
    """Channels of a table that a Slice leaves out. They keep the share that is asked for, and serve no target."""
    text = """net (int64[N,3] x) => (float[N,3,5] y) {
        e = Gather(table, x)  s = Slice(e, zero, end, axis)  y = MatMul(s, v)
    }"""
    model = net(text, table=(7, 12), zero=ints(0), end=ints(8), axis=ints(2), v=(8, 5))
    for settings, widths in ((dict(keep=0.5), [4, 2]), (dict(target=Target("macs", 0.5)), [4, 4])):
        result = compressed(model, samples=False, allocation=allocation, method="prune", **settings)
        assert [len(plan.keep) for plan in result.plans if not plan.group.frozen] == widths


def test_a_group_that_only_recurrent_layers_see():
    model = net("""net (float[S,2,4] x) => (float[S,1,2,3] y) {
        a, h, c = LSTM<hidden_size=8>(x, a_w, a_r)  q = Squeeze(a, one) y = LSTM<hidden_size=3>(q, b_w, b_r)
    }""", a_w=(1, 32, 4), a_r=(1, 32, 8), b_w=(1, 12, 8), b_r=(1, 12, 3), one=ints(1))  # fmt: skip
    for allocation in ("auto", "uniform"):
        assert kept(compressed(model, samples=False, keep=0.5, allocation=allocation, method="prune")) == {"a": 4}


@pytest.mark.parametrize("name", NETS)
def test_strict_blocks_are_kept_to(name):
    result = drafted(model_of(name), keep=0.5, blocks=Blocks(8))
    found = {plan.group.name: len(plan.keep) for plan in result.plans if plan.shrinks}
    copies = {"a #2": 4, "d": 4}  # of each channel, one in each of the convolution's parts
    assert found and all(width * copies.get(n, 1) % 8 == 0 for n, width in found.items())
    assert result.allocation.block == result.allocation.asked == 8


def study_of(name="chain", model=None):
    """(study, groups that may shrink, their losses) as method reconstruct finds them."""
    model = model or model_of(name)
    study = Compressor(model, samples=samples_for(model))
    variant = next(iter(study.variants))
    live = [g for g in study.analysis.groups if not g.frozen]
    planner = study.planners.allocator(chosen(), variant, group_scope(study.analysis, chosen())).planner
    return study, live, Losses(planner, variant, len(live))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("keep", [0.7, 0.4])
def test_no_group_by_group_share_loses_less(name, keep):
    _, live, losses = study_of(name)
    losses.of(live)
    lost = {
        how: losses.together(live, kept(drafted(model_of(name), keep=keep, allocation=how)))
        for how in ("auto", "uniform")
    }
    assert lost["auto"] < lost["uniform"] < math.inf


def test_what_the_outputs_do_not_depend_on_goes_first():
    """The last layer hardly looks at the channels of ``c``, which all lie far from each other."""
    body = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
        a = Conv(x, a_w)  ar = Relu(a)  c = Conv(x, c_w)  cr = Relu(c)  u = Conv(ar, u_w)  v = Conv(cr, v_w)
        y = Add(u, v)
    }"""
    sizes = dict(a_w=(50, 6, 1, 1), c_w=(50, 6, 1, 1), u_w=(5, 50, 1, 1))
    model = net(body, **sizes, v_w=np.full((5, 50, 1, 1), 1e-7, np.float32))
    assert kept(drafted(model, target=Target("macs", 0.6))) == {"a": 50, "c": 10}


@pytest.mark.parametrize("method", ["merge", "prune"])
def test_it_needs_no_samples(method):
    model = model_of()
    result = compressed(model, samples=False, target=Target("macs", 0.4), method=method)
    assert left(model, result) == pytest.approx(0.4, rel=0.01)
    assert {plan.method for plan in result.plans if plan.shrinks} == {method}


SETTINGS = [
    dict(keep=0.5),
    dict(keep=0.75, allocation="uniform"),
    dict(target=Target("params", 0.3)),
    dict(keep=0.5, exclude=("^b$",)),
    dict(keep=0.5, draft=True),
    dict(keep=0.3, method="merge"),
]


def test_a_study_gives_what_a_fresh_start_gives_in_any_order():
    model = model_of("residual")
    wanted = [compressed(model, **settings).model.SerializeToString(deterministic=True) for settings in SETTINGS]
    for order in (range(len(SETTINGS)), reversed(range(len(SETTINGS)))):
        study = Compressor(model, samples=samples_for(model))
        for i in order:
            made = study.compress(chosen(**SETTINGS[i])).model
            assert made.SerializeToString(deterministic=True) == wanted[i], SETTINGS[i]


def test_a_study_measures_alike_whatever_it_was_asked_first():
    """Large models are measured at fewer widths, however few groups the first question was about."""
    model = model_of()
    tuning = Tuning(sensitivity=SensitivityTuning(multiply_adds=35.0 * costs(model)[0]))
    study = Compressor(model, samples=samples_for(model), tuning=tuning)
    study.compress(chosen(keep=0.5, exclude=("^[ab]$",), draft=True))
    again, fresh = study.compress(chosen(keep=0.5, draft=True)), drafted(model, tuning=tuning, keep=0.5)
    assert again.model == fresh.model
    assert again.allocation.unaligned_loss == fresh.allocation.unaligned_loss


@pytest.mark.parametrize(
    "settings", [dict(keep=0.5), dict(target=Target("macs", 0.3)), dict(keep=0.4, blocks=Blocks(4))]
)
def test_a_draft_has_the_shapes_of_the_real_thing(settings):
    for name in NETS:
        real, draft = (compressed(model_of(name), draft=flag, **settings).model for flag in (False, True))
        shapes = [{t.name: tuple(t.dims) for t in m.graph.initializer} for m in (real, draft)]
        assert kept_sizes(shapes[0]) == kept_sizes(shapes[1])


def kept_sizes(shapes):
    """Those of weights: what is solved anew may have got a bias besides."""
    return {name: shape for name, shape in shapes.items() if name.endswith("_w")}


def test_widths_do_not_fall_below_one_nor_rise_above_all():
    for keep in (1e-6, 0.999, 1.0):
        for width, group in zip(kept(drafted(model_of(), keep=keep)).values(), (24, 32, 20), strict=True):
            assert 1 <= width <= group and (keep < 0.5 or width >= math.ceil(0.9 * group))


def test_the_prediction_is_reported():
    allocation = drafted(model_of(), keep=0.5).allocation
    assert 0 < allocation.unaligned_loss < 1 and 0 < allocation.loss < 1
    assert drafted(model_of(), keep=0.5, allocation="uniform").allocation.loss is None
    assert np.isfinite(array_of(drafted(model_of(), keep=0.5).model, "y_w")).all()


def test_what_could_not_be_measured_is_said(monkeypatch):
    def fails(*args):
        raise RunError("no piece runs")

    monkeypatch.setattr("passes.allocation.losses.Sensitivity", fails)
    result = compressed(model_of(), keep=0.5)
    assert "the budget was spread without measuring what the outputs lose: no piece runs" in result.notes
