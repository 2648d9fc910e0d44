"""Quantised weights are cut with their scales and zero points, and chosen by the values that they stand for."""

import numpy as np
import onnx
import pytest
from architectures import ARCHITECTURES
from netcase import conv
from netkit import TOLERANCE, array_of, compressed, difference, net, shape_of, twin_check
from onnx import numpy_helper

from passes.interface.reason import text

QUANTISED = [name for name in ARCHITECTURES if name.startswith("qdq-") and name != "qdq-tied"]
INTEGERS = ["qdq-channels", "qdq-tensor", "qdq-tensor-offset", "qdq-matmul", "qdq-matmul-inputs"]
FIRST = """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    aw = DequantizeLinear<axis=0>(q, s)  a = Conv(x, aw, a_b)  ar = Relu(a)  y = Conv(ar, y_w)
}"""


def first_layer(q, s, **more):
    return net(FIRST, q=q, s=s, **{"a_b": (len(q),), "y_w": (4, len(q), 1, 1), **more})


@pytest.mark.parametrize("name", QUANTISED)
def test_groups_are_the_layers(name):
    """What only turns integers into weights is no layer: it has no group, and ties no two layers."""
    model = ARCHITECTURES[name].model
    last = "g" if {"g_q"} & {t.name for t in model.graph.initializer} else "y"
    result = twin_check(model, keep=0.5, coupled=False)
    assert {p.group.name: p.shrinks for p in result.plans} == {"a": True, "b": True, last: False}
    assert text(result.plans[0].reason) == "pruned only: the weights of b are quantised"


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_cut_as_they_are(name):
    model = ARCHITECTURES[name].model
    result = compressed(model, keep=0.5)
    keep = {p.group.name: p.keep for p in result.plans}
    kept_outputs, kept_inputs = (1, 0) if "matmul" in name else (0, 1)
    for tensor in ("b_q", "b_s", "b_z"):
        before, after = array_of(model, tensor), array_of(result.model, tensor)
        assert before.dtype == after.dtype
        if before.ndim > 1:
            before = before.take(keep["b"], kept_outputs).take(keep["a"], kept_inputs)
        elif before.ndim == 1:
            before = before[keep["a" if name == "qdq-matmul-inputs" else "b"]]
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", INTEGERS)
def test_a_channel_is_gone_as_if_its_integers_were_the_zero_point(name):
    """The twin without the twin: the original with other integers in it, to the last bit."""
    model = ARCHITECTURES[name].model
    result = compressed(model, keep=0.5)
    twin = onnx.ModelProto.FromString(model.SerializeToString())
    for plan, layer in zip(result.plans, ("b", "y" if "matmul" in name else "g"), strict=False):
        gone = np.setdiff1d(np.arange(plan.group.size), plan.keep)
        tensor = next(t for t in twin.graph.initializer if t.name == f"{layer}_q")
        integers, zero = numpy_helper.to_array(tensor).copy(), array_of(model, f"{layer}_z")
        if "matmul" in name:
            integers[gone] = zero[gone][:, None] if name == "qdq-matmul-inputs" and layer == "b" else zero
        else:
            integers[:, gone] = zero.reshape(-1, *[1] * (integers.ndim - 1))
        tensor.CopyFrom(numpy_helper.from_array(integers, tensor.name))
    assert difference(twin, result.model) <= TOLERANCE


def test_channels_are_chosen_by_what_the_integers_stand_for():
    """The filters with the largest integers are the smallest: their scales are; and so with zero points."""
    q = np.random.default_rng(0).integers(-9, 10, (8, 3, 1, 1)).astype(np.int8) * np.int8(10)
    s = np.float32([0.1, 0.001, 0.1, 0.001, 0.1, 0.001, 0.1, 0.001])
    q[::2] //= 10
    model = first_layer(q, s)
    (plan, _) = twin_check(model, keep=0.5, method="prune").plans
    weights = np.abs(q.astype(np.float32) * s[:, None, None, None]).reshape(8, -1).sum(axis=1)
    np.testing.assert_array_equal(plan.keep, np.sort(np.argsort(-weights, kind="stable")[:4]))
    assert np.array_equal(plan.keep, [0, 2, 4, 6])


def test_free_channels_are_found_behind_the_integers():
    """Filter 3 is filter 1 with integers and scale twice as large, hence four times; filter 5 is filter 0 tripled."""
    rng = np.random.default_rng(1)
    q, s = rng.integers(-20, 20, (8, 3, 1, 1)).astype(np.int8), rng.uniform(0.01, 0.02, 8).astype(np.float32)
    q[3], s[3] = 2 * q[1], 2 * s[1]
    q[5], s[5] = 3 * q[0], s[0]
    bias = np.zeros(8, np.float32)
    model = first_layer(q, s, a_b=bias)
    result = compressed(model, lossless=True)
    assert result.plans[0].keep.tolist() == [0, 1, 2, 4, 6, 7]
    assert difference(model, result.model) <= TOLERANCE
    assert shape_of(result.model, "q") == (6, 3, 1, 1) and shape_of(result.model, "s") == (6,)


@pytest.mark.parametrize(("settings", "method"), [({"lossless": True}, "lossless"), ({"keep": 0.5}, "prune")])
def test_dead_channels_that_quantised_weights_read_are_no_loss(settings, method):
    text = """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv(x, a_w)  ar = Relu(a)  yw = DequantizeLinear<axis=0>(q, s)  y = Conv(ar, yw)
    }"""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((8, 3, 1, 1)).astype(np.float32)
    weight[3] = 0
    q = rng.integers(-20, 20, (4, 8, 1, 1)).astype(np.int8)
    plan = twin_check(net(text, a_w=weight, q=q, s=np.full(4, 0.01, np.float32)), **settings).plans[0]
    assert plan.method == method and 3 not in plan.keep
    assert (plan.reason is None) == (method == "lossless")


def test_filters_whose_integers_are_multiples_need_not_be():
    """Integers 2 q stand for 2 q - zero, which is no multiple of q - zero."""
    q = np.random.default_rng(2).integers(30, 60, (8, 3, 1, 1)).astype(np.uint8)
    q[3] = 2 * q[1]
    text = FIRST.replace("<axis=0>(q, s)", "(q, s, z)")
    weights = {"a_b": np.zeros(8, np.float32), "y_w": (4, 8, 1, 1), "z": np.array(64, np.uint8)}
    model = net(text, q=q, s=np.array(0.01, np.float32), **weights)
    assert not compressed(model, lossless=True).shrinks


def test_a_norm_behind_quantised_weights_is_not_folded():
    model = net(
        """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            aw = DequantizeLinear<axis=0>(q, s)  a = Conv(x, aw)
            n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)  y = Conv(r, y_w)
        }""",
        q=np.random.default_rng(3).integers(-90, 90, (8, 3, 1, 1)).astype(np.int8), s=np.full(8, 0.01, np.float32),
        n_scale=(8,), n_bias=(8,), n_mean=(8,), n_var=(8,), y_w=(4, 8, 1, 1),
    )  # fmt: skip
    result = twin_check(model, keep=0.5)
    assert "aw of a is not an initializer" in text(result.unfolded["n"])
    assert result.plans[0].method == "merge" and shape_of(result.model, "n_mean") == (4,)


@pytest.mark.parametrize("settings", [{"keep": 0.5}, {"lossless": True}], ids=["merge", "lossless"])
def test_constants_move_into_a_quantised_bias(settings):
    """Two filters of zeros give 1.5 everywhere; the consumer's bias, stored in integers, becomes one of floats."""
    rng = np.random.default_rng(4)
    weight, bias = rng.standard_normal((12, 3, 3, 3)).astype(np.float32), rng.standard_normal(12).astype(np.float32)
    weight[[2, 5]], bias[[2, 5]] = 0, 1.5
    model = net(
        """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  bb = DequantizeLinear<axis=0>(b_q, b_s)
            b = Conv(ar, b_w, bb)  br = Relu(b)  y = Conv(br, y_w, y_b)
        }""",
        a_w=weight, a_b=bias, b_q=rng.integers(-200, 200, 8).astype(np.int32), b_s=np.full(8, 0.01, np.float32),
        b_w=(8, 12, 1, 1), **conv("y", 4, 8, 1, 1),
    )  # fmt: skip
    result = twin_check(model, **settings)
    assert not {2, 5} & set(result.plans[0].keep.tolist())
    if "lossless" in settings:
        assert difference(model, result.model) <= TOLERANCE


def test_a_quantised_embedding_that_is_read_again_transposed():
    result = twin_check(ARCHITECTURES["qdq-tied"].model, keep=0.5)
    assert [(p.group.name, p.shrinks, text(p.reason)) for p in result.plans] == [
        ("e", True, "pruned only: the weights of y are quantised"),
        ("a", True, None),
        ("y", False, "e (Gather) picks indices from it"),
    ]
    assert shape_of(result.model, "e_q") == (300, 8) and shape_of(result.model, "e_s") == (300,)
