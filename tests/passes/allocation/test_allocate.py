"""How many channels each group keeps: budgets are met, what the user fixed stays fixed, and the outputs gain."""

import math

import numpy as np
import pytest
from netkit import array_of, net, shape_of
from unitkit import engine

from passes.allocation.allocate import TargetError
from passes.allocation.blocks import Blocks
from passes.allocation.budget import Target
from passes.allocation.losses import Losses
from passes.calibrated.views import Samples
from passes.cost import cost
from passes.graph.model import Graph
from passes.normalise import normalise
from passes.pipeline import Study, compress
from passes.settings import CompressSettings

CHAIN = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
    c = Conv(br, c_w, c_b)  cr = Relu(c)  y = Conv(cr, y_w, y_b)
}"""
CHAIN_SIZES = dict(a_w=(24, 6, 1, 1), a_b=(24,), b_w=(32, 24, 3, 3), b_b=(32,), c_w=(20, 32, 1, 1), c_b=(20,),
                   y_w=(5, 20, 1, 1), y_b=(5,))  # fmt: skip
RESIDUAL = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w)  br = Relu(b)  c = Conv(br, c_w)  s = Add(c, ar)
    d = Conv<group=4,pads=[1,1,1,1]>(s, d_w)  dr = Relu(d)  y = Conv(dr, y_w)
}"""
RESIDUAL_SIZES = dict(a_w=(48, 6, 1, 1), b_w=(40, 48, 3, 3), c_w=(48, 40, 1, 1), d_w=(64, 12, 3, 3), y_w=(5, 64, 1, 1))
# its groups: "a #2", 12 channels in each of four parts; "b", 40; "d", 16 in each of four parts
NETS = {"chain": (CHAIN, CHAIN_SIZES), "residual": (RESIDUAL, RESIDUAL_SIZES)}


def model_of(name="chain", **weights):
    body, sizes = NETS[name]
    return net(body, **{**sizes, **weights})


def samples_for(model, count=16):
    dims = [d.dim_value or count for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal([count, *dims[1:]]).astype(np.float32)
    return Samples({model.graph.input[0].name: x}, True, engine)


def chosen(**settings):
    settings = {"allocation": "auto", "method": "reconstruct", "select": "auto", **settings}
    return CompressSettings(**settings)


def compressed(model, samples=True, **settings):
    return compress(model, chosen(**settings), samples=samples_for(model) if samples else None)


def drafted(model, **settings):
    """Of the same widths, without the time that solving takes."""
    return compressed(model, draft=True, **settings)


def kept(result):
    return {plan.group.name: len(plan.keep) for plan in result.plans if not plan.group.frozen}


def costs(model):
    found = cost(Graph(normalise(model)))
    return found.macs, found.params


def left(model, result, kind="macs"):
    """Share of the cost."""
    index = ("macs", "params").index(kind)
    return costs(result.model)[index] / costs(model)[index]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_as_much_goes_as_where_every_group_keeps_the_same(name, keep):
    model = model_of(name)
    auto, uniform = (left(model, drafted(model, keep=keep, allocation=how)) for how in ("auto", "uniform"))
    assert auto == pytest.approx(uniform, rel=0.05)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
@pytest.mark.parametrize("ratio", [0.99, 0.6, 0.3, 0.1])
@pytest.mark.parametrize("name", NETS)
def test_targets_are_met(name, ratio, allocation):
    model = model_of(name)
    for kind in ("macs", "params"):
        settings = dict(target=Target(kind, ratio), allocation=allocation, method="merge")
        try:
            result = compressed(model, samples=False, **settings)
        except TargetError as error:
            assert allocation == "uniform" and "the nearest that can be reached is" in str(error)
        else:
            assert left(model, result, kind) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("name", NETS)
def test_targets_are_met_by_what_is_solved_anew(name, kind):
    """Also where that gives layers a bias that had none."""
    model = model_of(name)
    assert left(model, compressed(model, target=Target(kind, 0.5)), kind) == pytest.approx(0.5, rel=0.01)


def test_a_target_of_everything_leaves_everything():
    for kind in ("macs", "params"):
        for allocation in ("auto", "uniform"):
            result = compressed(model_of(), target=Target(kind, 1.0), allocation=allocation)
            assert not result.shrinks and result.model == model_of()


NORMED = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)  y = Conv(r, y_w)
}"""
NORMED_SIZES = dict(a_w=(80, 6, 1, 1), **{f"n_{part}": (80,) for part in ("scale", "bias", "mean", "var")},
                    y_w=(5, 80, 1, 1))  # fmt: skip


@pytest.mark.parametrize("ratio", [1.0, 0.7, 0.5])
def test_parameters_that_folding_frees_count(ratio):
    model = net(NORMED, **NORMED_SIZES)
    assert costs(model)[1] == 80 * (6 + 4 + 5)
    result = compressed(model, samples=False, target=Target("params", ratio), method="merge")
    assert left(model, result, "params") == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_a_target_that_is_too_far_names_the_least(allocation):
    model = model_of()
    least = drafted(model, keep=1e-9, allocation="uniform")
    assert set(kept(least).values()) == {1}
    with pytest.raises(TargetError) as caught:
        drafted(model, target=Target("macs", 1e-6), allocation=allocation)
    assert f"target-macs 1e-06 cannot be met: the least that can be reached is {left(model, least):.4f}" in str(
        caught.value
    )


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_where_everything_is_excluded(allocation):
    assert not drafted(model_of(), keep=0.5, exclude=(".",), allocation=allocation).shrinks
    with pytest.raises(TargetError, match=r"the least that can be reached is 1\.0000: exclude less"):
        drafted(model_of(), target=Target("macs", 0.5), exclude=(".",), allocation=allocation)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_a_model_without_multiply_adds(allocation):
    model = net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    assert not compressed(model, samples=False, keep=0.5, allocation=allocation).shrinks
    with pytest.raises(TargetError, match="target-macs 0.5 cannot be met: .* no multiply-adds"):
        compressed(model, samples=False, target=Target("macs", 0.5), allocation=allocation)


def test_what_blocks_keep_from_a_target_may_be_reached_without():
    for blocks in (Blocks(16), Blocks(8)):
        with pytest.raises(TargetError, match="multiples of .*: --align 1 or auto may come nearer"):
            drafted(model_of(), target=Target("macs", 0.03), blocks=blocks)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_one_group(allocation):
    model = net("net (float[N,6] x) => (float[N,5] y) { a = Gemm(x, a_w) r = Relu(a) y = Gemm(r, y_w) }",
                a_w=(6, 100), y_w=(100, 5))  # fmt: skip
    for ratio in (0.01, 0.25, 0.99):
        found = kept(drafted(model, target=Target("macs", ratio), allocation=allocation))
        assert found == {"a": 100 * ratio}
    assert kept(drafted(model, keep=0.37)) == {"a": 37}


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_narrow_groups(allocation):
    """Of one channel there is none; of two or three, one can stay."""
    body = "a = Gemm(x, a_w) b = Gemm(a, b_w) c = Gemm(b, c_w) y = Gemm(c, y_w)"
    sizes = dict(a_w=(6, 1), b_w=(1, 2), c_w=(2, 3), y_w=(3, 5))
    model = net(f"net (float[N,6] x) => (float[N,5] y) {{ {body} }}", **sizes)
    assert kept(drafted(model, target=Target("macs", 13 / 29), allocation=allocation)) == {"b": 1, "c": 1}
    for size in (2, 3, 4, 8):
        result = drafted(model, keep=0.5, allocation=allocation, blocks=Blocks(size, strict=False))
        assert all(1 <= width <= 3 for width in kept(result).values())


def test_shares_that_the_user_gave_win():
    result = drafted(model_of(), target=Target("macs", 0.5), keep_layers=(("^b$", 0.75),), exclude=("^c$",))
    found = kept(result)
    assert found["b"] == 24 and found["c"] == 20 and left(model_of(), result) == pytest.approx(0.5, rel=0.03)
    result = drafted(model_of(), keep=0.5, exclude_inputs=("^c$",))
    assert kept(result)["b"] == 32 and kept(result)["a"] < 24 and shape_of(result.model, "c_w")[1] == 32
    assert next(p for p in result.plans if p.group.name == "b").reason == "read by what '^c$' excludes"
    found = kept(drafted(model_of("residual"), keep=0.5, coupled=False))
    assert found["a #2"] == 12 and found["b"] < 40


def test_a_group_that_costs_nothing_keeps_its_share():
    """Channels that only an LSTM sees: it is not counted."""
    model = net("""net (float[S,2,4] x) => (float[S,1,2,3] y) {
        a, h, c = LSTM<hidden_size=8>(x, a_w, a_r)  y = LSTM<hidden_size=3>(q, b_w, b_r)  q = Squeeze(a, one)
    }""".replace("y = LSTM<hidden_size=3>(q, b_w, b_r)  q = Squeeze(a, one)",
                 "q = Squeeze(a, one) y = LSTM<hidden_size=3>(q, b_w, b_r)"),
                a_w=(1, 32, 4), a_r=(1, 32, 8), b_w=(1, 12, 8), b_r=(1, 12, 3), one=np.array([1]))  # fmt: skip
    for allocation in ("auto", "uniform"):
        assert kept(compressed(model, samples=False, keep=0.5, allocation=allocation, method="prune")) == {"a": 4}


@pytest.mark.parametrize("name", NETS)
def test_strict_blocks_are_kept_to(name):
    result = drafted(model_of(name), keep=0.5, blocks=Blocks(8))
    found = {plan.group.name: len(plan.keep) for plan in result.plans if plan.shrinks}
    copies = {"a #2": 4, "d": 4}  # of each channel, one in each of the convolution's parts
    assert found and all(width * copies.get(n, 1) % 8 == 0 for n, width in found.items())
    assert result.allocation.block == result.allocation.asked == 8


def test_blocks_give_way_where_a_target_needs_it():
    result = drafted(model_of(), target=Target("macs", 0.03), blocks=Blocks(16, strict=False))
    assert left(model_of(), result) == pytest.approx(0.03, rel=0.01)
    assert result.allocation.block < result.allocation.asked == 16


def study_of(name="chain", model=None):
    """(study, groups that may shrink, their losses) as method reconstruct finds them."""
    model = model or model_of(name)
    study = Study(model, samples=samples_for(model))
    view = next(iter(study._views))
    live = [g for g in study.analysis.groups if not g.frozen]
    planner = study._planner(chosen(), view, live)
    return study, live, Losses(planner, view, len(live))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("keep", [0.7, 0.4])
def test_no_group_by_group_share_loses_less(name, keep):
    _, live, losses = study_of(name)
    losses.of(live)
    lost = {
        how: losses.together(live, kept(drafted(model_of(name), keep=keep, allocation=how)))
        for how in ("auto", "uniform")
    }
    assert lost["auto"] <= lost["uniform"]


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
        study = Study(model, samples=samples_for(model))
        for i in order:
            made = study.compress(chosen(**SETTINGS[i])).model
            assert made.SerializeToString(deterministic=True) == wanted[i], SETTINGS[i]


def test_a_study_measures_alike_whatever_it_was_asked_first(monkeypatch):
    """Large models are measured at fewer widths, however few groups the first question was about."""
    model = model_of()
    monkeypatch.setattr("passes.allocation.sensitivity.WORK", 35.0 * costs(model)[0])
    study = Study(model, samples=samples_for(model))
    study.compress(chosen(keep=0.5, exclude=("^[ab]$",), draft=True))
    again, fresh = study.compress(chosen(keep=0.5, draft=True)), drafted(model, keep=0.5)
    assert again.model == fresh.model
    assert again.allocation.free_loss == fresh.allocation.free_loss


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
    assert 0 < allocation.free_loss < 1 and 0 < allocation.loss < 1
    assert drafted(model_of(), keep=0.5, allocation="uniform").allocation.loss is None
    assert np.isfinite(array_of(drafted(model_of(), keep=0.5).model, "y_w")).all()
