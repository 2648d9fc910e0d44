"""The settings of `compress`: which groups shrink, and how much."""

import pickle
import re

import pytest
from netkit import TOLERANCE, compressed, difference, net, shape_of, twin_check

from passes.interface.errors import PassError
from passes.pipeline import Compressor, compress
from passes.settings.compress import CompressSettings

BODY = """net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  br = Relu(b)  c = Conv(br, c_w)  s = Add(c, ar)
    d = Conv(s, d_w)  dr = Relu(d)  y = Conv(dr, y_w)
}"""
WEIGHTS = {"a_w": (8, 3, 1, 1), "b_w": (6, 8, 1, 1), "c_w": (8, 6, 1, 1), "d_w": (10, 8, 1, 1), "y_w": (5, 10, 1, 1)}


def widths(**settings):
    result = compressed(net(BODY, **WEIGHTS), **settings)
    return {name: shape_of(result.model, f"{name}_w")[0] for name in "abcd"}


def plans(**settings):
    return {plan.group.name: plan for plan in compressed(net(BODY, **WEIGHTS), **settings).plans}


def test_every_group_keeps_its_share_rounded_up():
    assert widths(keep=0.5) == {"a": 4, "b": 3, "c": 4, "d": 5}
    assert widths(keep=0.55) == {"a": 5, "b": 4, "c": 5, "d": 6}
    assert widths(keep=0.01) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_excluded_layers_stay_whole():
    assert widths(keep=0.5, exclude=("^b$",)) == {"a": 4, "b": 6, "c": 4, "d": 5}
    assert widths(keep=0.5, exclude=("c",)) == {"a": 8, "b": 3, "c": 8, "d": 5}, "a and c are one group"
    assert plans(keep=0.5, exclude=("^b$", "d"))["d"].reason.detail == "excluded by 'd'"


def test_a_share_of_its_own_and_the_first_wins():
    assert widths(keep_layers=(("^b$", 0.5),)) == {"a": 8, "b": 3, "c": 8, "d": 10}
    assert widths(keep=0.5, keep_layers=(("d", 1.0), ("[bd]", 0.2))) == {"a": 4, "b": 2, "c": 4, "d": 10}


def test_coupled_groups_can_be_left():
    assert widths(keep=0.5, coupled=False) == {"a": 8, "b": 3, "c": 8, "d": 5}
    assert str(plans(keep=0.5, coupled=False)["a"].reason) == "coupled: shared by 2 layers, a and c among them"


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"exclude": ("nowhere",)}, "`exclude` 'nowhere'"),
        ({"keep_layers": (("nowhere", 0.5),)}, "`keep_layers` 'nowhere'"),
    ],
)
def test_an_expression_that_matches_nothing_is_an_error(settings, option):
    with pytest.raises(PassError, match=re.escape(f"{option} matches no layer; the first is 'a'")):
        widths(keep=0.5, **settings)


def test_an_expression_that_is_none_is_an_error():
    with pytest.raises(PassError, match="is not a regular expression"):
        widths(keep=0.5, exclude=("(",))


def test_a_model_without_layers():
    model = net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    result = compressed(model, keep=0.5)
    assert not result.plans and result.model == model
    with pytest.raises(PassError, match="the model has no layer with weights"):
        compressed(model, keep=0.5, exclude=("a",))


def test_names_are_unique():
    """One layer, split into two groups."""
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm(x, w)  l, r = Split<axis=1>(a)  lr = Relu(l)  rr = Tanh(r)
        s = Gemm(lr, u)  t = Gemm(rr, v)  y = Add(s, t)
    }"""
    result = compressed(net(body, 11, w=(6, 16), u=(8, 4), v=(8, 4)), keep=0.5)
    names = [plan.group.name for plan in result.plans]
    assert names[:2] == ["a", "a #2"] and len(set(names)) == len(names)


def test_the_rest_says_why():
    found = plans(keep=0.5)
    assert str(found["y"].reason) == "y is a graph output" and not found["y"].shrinks
    assert found["b"].reason is None and found["b"].method == "merge"
    assert {p.method for p in plans(keep=0.5, method="prune").values() if p.shrinks} == {"prune"}


@pytest.mark.parametrize("select", ["l1", "l2", "gm", "reprune", "reprune-kernel"])
def test_twins_agree_whatever_is_selected(select):
    result = compressed(net(BODY, **WEIGHTS), keep=0.5, select=select)
    assert result.shrinks and difference(result.twin(), result.model) <= TOLERANCE
    assert set(result.seconds) == {"normalise", "fold", "scales", "means", "infer", "allocate", "plan", "shrink"}


def test_the_count_of_a_tensor_stays_when_its_channels_go():
    body = """net (float[2,6] x) => (float[2,4] y) {
        a = Gemm(x, w)  n = Size(a)  f = Cast<to=1>(n)  r = Div(a, f)  y = Gemm(r, v)
    }"""
    result = twin_check(net(body, w=(6, 8), v=(8, 4)), keep=0.5)
    assert shape_of(result.model, "w") == (6, 4)


def test_a_prepared_study_gives_the_same_elsewhere():
    """In another process, that is; what was found out is not found out again there."""
    model = net(BODY, **WEIGHTS)
    for given in ({}, {"allocation": "auto"}, {"exclude": ("d",)}, {"select": "gm", "method": "prune"}):
        study = Compressor(model, progress=lambda stage: None)
        study.prepare(CompressSettings(keep=0.3, **given))
        sent = pickle.loads(pickle.dumps(study))
        for keep in (0.8, 0.3, 1.0):
            expected = compress(model, CompressSettings(keep=keep, **given)).model
            assert study.compress(CompressSettings(keep=keep, **given)).model == expected
            assert sent.compress(CompressSettings(keep=keep, **given)).model == expected
    with pytest.raises(PassError, match="matches no layer"):
        study.prepare(CompressSettings(keep=0.3, exclude=("nowhere",)))


def test_tensors_in_attributes_can_be_sent():
    model = net(
        """net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
            s = Shape(x)  z = ConstantOfShape <value: tensor = float[1] {1.0}> (s)  p = Add(x, z)
            a = Conv(p, a_w)  y = Conv(a, y_w)
        }""",
        a_w=(8, 3, 1, 1),
        y_w=(5, 8, 1, 1),
    )
    study = pickle.loads(pickle.dumps(Compressor(model)))
    assert study.compress(CompressSettings(keep=0.5)).model == compress(model, CompressSettings(keep=0.5)).model
