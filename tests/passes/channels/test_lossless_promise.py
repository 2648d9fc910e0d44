"""Channels removed by a lossless compression are redundant on every input; others say why they cannot be merged."""

import numpy as np
import pytest
from netkit import array_of, compressed, difference, ints, net, shape_of, twin_check
from planted import drawn
from scaledkit import EXACT, moved

from passes.interface.reason import text

ONE_HOT = """net (int32[N,8] x) => (float[N,8,4] y) {
    u = Unsqueeze(x, last)  eq = Equal(u, values)  hot = Cast<to=1>(eq)  e = MatMul(hot, w)  t = Tanh(e)
    y = MatMul(t, v)
}"""
POWERS = "net (float[N,1] x) => (float[N,4] y) { f = Pow(x, p)  y = Gemm(f, w) }"
THRESHOLDS = "net (float[N,1] x) => (float[N,4] y) { g = Greater(x, p)  f = Cast<to=1>(g)  y = Gemm(f, w) }"
NORMED = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    a = Conv(x, w)  n = BatchNormalization(a, scale, bias, mean, var)  r = Relu(n)  y = Conv(r, v, c)
}"""


def one_hot(count=32):
    return net(ONE_HOT, last=ints(-1), values=np.arange(count, dtype=np.int32)[None, None], w=(count, 16), v=(16, 4))


def features(text):
    return net(text, p=np.arange(1, 9, dtype=np.float32)[None] / 4, w=(8, 4))


@pytest.mark.parametrize(
    ("model", "maker"),
    [(one_hot(), "eq (Equal)"), (features(POWERS), "f (Pow)"), (features(THRESHOLDS), "g (Greater)")],
    ids=["one-hot", "powers", "thresholds"],
)
def test_what_constants_make_in_other_ways_than_by_a_scale_is_pruned_only(model, maker):
    assert not compressed(model, lossless=True).plans[0].shrinks
    plan = twin_check(model, keep=0.5, method="merge").plans[0]
    assert text(plan.reason) == f"pruned only: {maker} makes them of constants whose scale it does not pass on"
    assert plan.method == "prune" and all((z.sum(axis=1) <= 1).all() for z in plan.mixing.values())


@pytest.mark.parametrize(
    "maker", ["Sub(x, p)", "Sub(p, x)", "Add(x, p)", "Sum(p, x, p)", "Mean(x, p)", "Max(x, p)", "Min(p, x)"]
)
def test_what_is_only_added_makes_channels_too(maker):
    """Distances to centres: each channel has a constant of its own, and is read by its own row of weights."""
    model = features(
        f"net (float[N,1] x) => (float[N,4] y) {{ d = {maker}  e = Mul(d, d)  f = Exp(e)  y = Gemm(f, w) }}"
    )
    assert not compressed(model, lossless=True).plans[0].shrinks
    plan = twin_check(model, keep=0.5, method="merge").plans[0]
    assert plan.method == "prune" and len(plan.keep) == 4


def normed(scale, bias):
    p = drawn(w=(8, 3, 1, 1), scale=(8,), bias=(8,), mean=(8,), var=(8,), v=(4, 8, 1, 1), c=(4,))
    p["scale"][3], p["bias"][3] = scale, bias
    return p


@pytest.mark.parametrize("bias", [0.0, 0.7, -0.7], ids=["negligible", "constant", "dead"])
def test_what_only_a_norm_recorded_goes_where_loss_is_allowed(bias):
    """A scale next to nothing hides what the weights would show of an input far from the training data."""
    model = net(NORMED, **normed(1e-12, bias))
    assert not compressed(model, lossless=True).shrinks
    result = compressed(model, keep=7 / 8)
    assert result.plans[0].keep.tolist() == [0, 1, 2, 4, 5, 6, 7] and result.plans[0].method == "lossless"
    assert difference(model, result.model) <= EXACT


def test_a_scale_of_zero_needs_no_record():
    model = net(NORMED, **normed(0.0, 0.7))
    result = compressed(model, lossless=True)
    assert shape_of(result.model, "w")[0] == 7 and moved(model, result.model) <= EXACT


def test_what_is_free_on_every_input_goes_first():
    p = normed(1e-12, 0.0)
    p["v"][:, 6] = 0
    p["w"][5], p["bias"][5], p["mean"][5] = 2 * p["w"][4], p["bias"][4], 2 * p["mean"][4]
    p["var"][5], p["scale"][5] = 4 * p["var"][4] + 3e-5, p["scale"][4]
    model = net(NORMED, **p)
    keeps = [compressed(model, keep=n / 8).plans[0].keep.tolist() for n in (7, 6, 5)]
    assert keeps == [[0, 1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 4, 7], [0, 1, 2, 4, 7]]
    assert compressed(model, lossless=True).plans[0].keep.tolist() == keeps[1]


def test_a_class_token_keeps_a_dead_channel_alive():
    """The constant beside the data holds other values of the channel."""
    body = """net (float[2,5,6] x) => (float[2,6,4] y) {
        a = MatMul(x, w)  r = Relu(a)  t = Concat<axis=1>(token, r)  y = MatMul(t, v)
    }"""
    p = drawn(w=(6, 8), token=(2, 1, 8), v=(8, 4))
    p["w"][:, [2, 5]] = 0
    assert not compressed(net(body, **p), lossless=True).shrinks
    p["token"][:, :, 5] = 0
    model = net(body, **p)
    result = compressed(model, lossless=True)
    assert array_of(result.model, "w").shape == (6, 7) and moved(model, result.model) <= EXACT


def test_a_bound_from_the_data_bounds_nothing():
    body = """net (float[N,6] x) => (float[N,4] y) {
        top = ReduceMin<keepdims=0>(x)  a = Gemm<transB=1>(x, w, b)  r = Clip(a, zero, top)
        y = Gemm<transB=1>(r, v, c)
    }"""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    p["w"][2], p["b"][2] = 0, 0.7
    model = net(body, zero=np.array(0, np.float32), **p)
    assert not compressed(model, lossless=True).shrinks


def test_random_elements_are_nobodys_copies():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w, b)  r = Dropout(a, ratio, training)  y = Gemm<transB=1>(r, v, c)
    }"""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    p["w"][5], p["b"][5] = p["w"][4], p["b"][4]
    model = net(body, ratio=np.array(0.5, np.float32), training=np.array(True), **p)
    assert "may drop elements at random" in text(compressed(model, lossless=True).plans[0].reason)
    assert compressed(net(body, ratio=np.array(0.5, np.float32), training=np.array(False), **p), lossless=True).shrinks


def test_small_weights_beside_large_ones_count():
    """Two layers whose channels go together: in one of them, weights of a thousandth hide another scale."""
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = MatMul(x, w)  b = MatMul(x, u)  s = Mul(a, b)  y = MatMul(s, v)
    }"""
    p = drawn(w=(6, 8), u=(6, 8), v=(8, 4))
    p["w"][:, 5], p["u"][:, 5] = 2 * p["w"][:, 4], 3 * p["u"][:, 4]
    p["w"] *= 1e7
    model = net(body, **p)
    result = compressed(model, lossless=True)
    assert moved(model, result.model) <= EXACT


def test_an_offset_counts_beside_that_of_another_channel():
    """What is added is compared with the channel's own size, not with the largest of all."""
    body = "net (float[N,6] x) => (float[N,4] y) { a = MatMul(x, w)  b = Add(a, k)  r = Relu(b)  y = MatMul(r, v) }"
    p = drawn(w=(6, 8), k=(8,), v=(8, 4))
    p["k"][0], p["w"][:, 5] = -1e5, 2 * p["w"][:, 4]
    p["k"][4], p["k"][5] = 0.1, 0.5
    assert not compressed(net(body, **p), lossless=True).shrinks
    p["k"][5] = 0.2
    assert compressed(net(body, **p), lossless=True).plans[0].keep.tolist() == [0, 1, 2, 3, 4, 6, 7]


def test_a_bias_that_is_one_number_takes_a_constant():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c)
    }"""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=())
    p["w"][2], p["b"][2], p["c"] = 0, 0.7, np.array(0.3, np.float32)
    model = net(body, **p)
    result = compressed(model, lossless=True)
    assert shape_of(result.model, "w")[0] == 7 and moved(model, result.model) <= EXACT


@pytest.mark.parametrize("op", ["Floor", "Tanh"])
def test_behind_a_step_only_exact_copies_are_equal(op):
    """Rows that differ in the last bit differ by one behind a Floor of whole numbers."""
    body = f"net (float[N,6] x) => (float[N,4] y) {{ a = MatMul(x, w)  r = {op}(a)  y = MatMul(r, v) }}"
    p = drawn(w=(6, 8), v=(8, 4))
    p["w"][:, 5] = p["w"][:, 4] * np.float32(1 + 2e-7)
    assert compressed(net(body, **p), lossless=True).shrinks == (op == "Tanh")
    p["w"][:, 5] = p["w"][:, 4]
    assert compressed(net(body, **p), lossless=True).shrinks


def test_units_that_are_fed_back_are_no_copies_to_merge():
    """Their initial state is computed, so that they pass through the layer rather than being made by it."""
    body = """net (float[3,N,6] x) => (float[N,4] y) {
        s = Shape(x)  n = Slice(s, one, two)  to = Concat<axis=0>(one, n, one)  h0 = Expand(state, to)
        o, h = RNN<hidden_size=8>(x, w, r, b, "", h0)  q = Squeeze(h, zero)  y = MatMul(q, v)
    }"""
    p = drawn(state=(1, 1, 8), w=(1, 8, 6), r=(1, 8, 8), b=(1, 16), v=(8, 4))
    for array in (p["w"], p["r"]):
        array[:, 5] = array[:, 4]
    p["b"][:, [5, 13]], p["state"][..., 5] = p["b"][:, [4, 12]], p["state"][..., 4]
    model = net(body, one=ints(1), two=ints(2), zero=ints(0), **p)
    result = compressed(model, lossless=True)
    assert moved(model, result.model) <= EXACT
    assert "feeds them back to itself" in text(twin_check(model, keep=0.5, method="merge").plans[0].reason)


def test_a_bias_for_each_sample_takes_no_constant():
    """It has as many rows as the layer has outputs, and is none the less no bias of a channel."""
    body = """net (float[4,6] x) => (float[4,4] y) {
        a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c)
    }"""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4, 1))
    p["w"][2], p["b"][2] = 0, 0.7
    assert not compressed(net(body, **p), lossless=True).shrinks
    p["b"][2] = -0.7
    model = net(body, **p)
    result = compressed(model, lossless=True)
    assert shape_of(result.model, "w")[0] == 7 and moved(model, result.model) <= EXACT
