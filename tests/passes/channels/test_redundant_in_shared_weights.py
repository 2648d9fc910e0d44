"""Layers share weights: channels go that are redundant in the same way wherever the weights are read."""

import numpy as np
import pytest
from netkit import TOLERANCE, array_of, compressed, difference, net, shape_of, twin_check
from planted import drawn

from passes.interface.reason import text

ENDS = "net (float[N,6] x, float[N,6] z) => (float[N,3] y)"
TOWERS = f"""{ENDS} {{
    a = Gemm(x, w, b)  FIRST  ay = Gemm(ar, v, c)  d = Gemm(z, w, b)  SECOND  dy = Gemm(dr, v, c)  y = Sub(ay, dy)
}}"""
WITHOUT_BIAS = TOWERS.replace("dy = Gemm(dr, v, c)", "dy = MatMul(dr, v)")
RELU = ("ar = Relu(a)", "dr = Relu(d)")


def towers(first, second, p, body=TOWERS, **more):
    return net(body.replace("FIRST", first).replace("SECOND", second), **p, **more)


def weights():
    return drawn(w=(6, 8), b=(8,), v=(8, 3), c=(3,))


def lossless(model, width):
    result = compressed(model, lossless=True)
    assert shape_of(result.model, "w") == (6, width) and shape_of(result.model, "v") == (width, 3)
    assert difference(model, result.model) <= TOLERANCE
    return result


def copied(p, factor=2.0):
    p["w"][:, 5], p["b"][5] = factor * p["w"][:, 4], factor * p["b"][4]
    return p


def test_a_multiple_in_both_towers():
    p = copied(weights())
    result = lossless(towers(*RELU, p), 7)
    np.testing.assert_allclose(array_of(result.model, "v")[4], p["v"][4] + 2 * p["v"][5], rtol=1e-6)
    assert result.plans[0].method == "lossless" and result.plans[0].reason is None


def test_a_multiple_is_merged_where_loss_is_allowed():
    model = towers(*RELU, copied(weights()))
    exact = compressed(model, keep=7 / 8, method="merge")
    assert exact.plans[0].method == "lossless" and difference(model, exact.model) <= TOLERANCE
    plan = twin_check(model, keep=0.5, method="merge").plans[0]
    assert plan.method == "merge" and len({z.toarray().tobytes() for z in plan.mixing.values()}) == 1


def test_what_would_be_merged_by_another_factor_in_each_tower_is_pruned():
    scale = np.linspace(1, 2, 8, dtype=np.float32)
    model = towers("ak = Mul(a, k)  ar = Relu(ak)", "dr = Relu(d)", weights(), k=scale)
    plan = twin_check(model, keep=0.5, method="merge").plans[0]
    assert text(plan.reason) == "pruned only: v is read by several nodes" and plan.method == "prune"


@pytest.mark.parametrize(("factor", "width"), [(1.0, 7), (2.0, 8)])
def test_a_copy_in_one_tower_and_a_multiple_in_the_other(factor, width):
    """One row of the shared weights cannot take two factors."""
    scale = np.ones(8, np.float32)
    scale[5] = factor
    model = towers("ak = Mul(a, k)  ar = Relu(ak)", "dr = Relu(d)", copied(weights()), k=scale)
    if width == 7:
        lossless(model, 7)
    else:
        plan = compressed(model, lossless=True).plans[0]
        assert not plan.shrinks and text(plan.reason) == "no channel is free"


def test_a_copy_in_one_tower_alone_stays():
    """Behind an offset the channels of the second tower differ."""
    offset = np.zeros(8, np.float32)
    offset[5] = 0.5
    model = towers("ar = Relu(a)", "dk = Add(d, k)  dr = Relu(dk)", copied(weights(), 1.0), k=offset)
    assert not compressed(model, lossless=True).shrinks


def test_zero_in_one_tower_alone_stays():
    p = weights()
    p["w"][:, 2], p["b"][2] = 0, -0.5
    assert not compressed(towers("ar = Relu(a)", "dr = Tanh(d)", p, WITHOUT_BIAS), lossless=True).shrinks
    lossless(towers(*RELU, p, WITHOUT_BIAS), 7)


def test_each_tower_takes_the_constant_that_it_reads():
    p = weights()
    p["w"][:, 2], p["b"][2] = 0, 0.5
    model = towers("ar = Relu(a)", "dr = Sigmoid(d)", p)
    result = lossless(model, 7)
    assert sum(t.dims == [3] for t in result.model.graph.initializer) == 2, "one bias for each"
    assert not compressed(towers("ar = Relu(a)", "dr = Sigmoid(d)", p, WITHOUT_BIAS), lossless=True).shrinks


def test_weights_that_are_read_otherwise_too_stay():
    """Rows of the matrix are looked up as well: they may not change."""
    body = """net (float[N,6] x, int64[N] i) => (float[N,3] y) {
        a = Gemm(x, w, b)  ar = Relu(a)  ay = Gemm(ar, v, c)  rows = Gather(v, i)  y = Add(ay, rows)
    }"""
    assert not compressed(net(body, **copied(weights())), lossless=True).shrinks


LAYER = """{0}a = MatMul({1}, w)  {0}b = Add({0}a, b)  {0}g = Gelu({0}b)  {0}m = MatMul({0}g, v)  {0}o = Add({0}m, c)
    {0}s = Add({0}o, {1})  {2} = Tanh({0}s)"""


def recurring(p):
    """Two layers with the same weights, one after the other."""
    body = LAYER.format("i", "x", "one") + " " + LAYER.format("j", "one", "y")
    return net(f"net (float[N,5,12] x) => (float[N,5,12] y) {{ {body} }}", 20, **p)


def test_layers_that_repeat():
    p = drawn(w=(12, 8), b=(8,), v=(8, 12), c=(12,))
    p["w"][:, 5], p["b"][5] = p["w"][:, 4], p["b"][4]
    p["w"][:, 2], p["b"][2] = 0, 0.5
    p["v"][7] = 0
    model = recurring(p)
    result = compressed(model, lossless=True)
    assert shape_of(result.model, "w") == (12, 5) and shape_of(result.model, "v") == (5, 12)
    assert difference(model, result.model) <= TOLERANCE


def test_what_cannot_be_merged_says_so():
    """Queries and keys: products of two activations, whose terms go if they are zero."""
    body = """net (float[N,5,12] x) => (float[N,5,5] y) {
        q = MatMul(x, w)  k = MatMul(x, v)  kt = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, kt)  y = Softmax(s)
    }"""
    plan = compressed(net(body, w=(12, 8), v=(12, 8)), lossless=True).plans[0]
    assert (
        text(plan.reason) == "no channel is known to be dead, and copies cannot be merged: s multiplies two activations"
    )
