"""Planted scaled copies of channels merge losslessly: the model gets its width and its outputs back."""

import numpy as np
import pytest
from netkit import TOLERANCE, compressed, difference, net, shape_of
from planted import copies, drawn, grown, shares

from passes.interface.reason import text

EPSILON = 1e-5

GEMM = "net (float[N,6] x) => (float[N,4] y) { a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c) }"
CONV = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    a = Conv<pads=[1,1,1,1]>(x, w, b)  n = BatchNormalization(a, scale, bias, mean, var)  r = LeakyRelu<alpha=0.1>(n)
    y = Conv<pads=[1,1,1,1]>(r, v, c)
}"""


def ways(result):
    return [(plan.group.size, len(plan.keep), plan.method) for plan in result.plans if plan.shrinks]


def restores(small, wide, layer, width, **settings):
    """Both compressing losslessly and to the original width gives the original function and width back."""
    assert difference(small, wide) <= TOLERANCE, "the test's own widening is wrong"
    result = compressed(wide, **(settings or {"lossless": True}))
    assert difference(wide, result.model) <= TOLERANCE
    assert shape_of(result.model, layer)[0] == width
    return result


def modes(small_width, wide_width):
    return [{"lossless": True}, {"keep": small_width / wide_width}]


@pytest.mark.parametrize("mode", [0, 1], ids=["lossless", "keep"])
@pytest.mark.parametrize("factor", [1.5, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm(factor, bias, mode):
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    source, scale = copies(8, factor)
    wide = {**p, "w": grown(p["w"], 0, source, scale), "b": grown(p["b"], 0, source, scale)}
    wide["v"] = grown(p["v"], 1, source, shares(source, scale))
    body = GEMM if bias else GEMM.replace("(x, w, b)", "(x, w)")
    if not bias:
        p.pop("b"), wide.pop("b")
    result = restores(net(body, **p), net(body, **wide), "w", 8, **modes(8, len(source))[mode])
    assert ways(result) == [(len(source), 8, "lossless")]


def in_weights(p, source, scale):
    """The scale sits in the convolution; the norm's statistics follow, its affine part as well."""
    # (s x - s m) / sqrt(s^2 v + s^2 e) would need a scaled epsilon: the variance absorbs the difference.
    variance = scale**2 * (p["var"][source].astype(float) + EPSILON) - EPSILON
    return {
        "w": grown(p["w"], 0, source, scale), "b": grown(p["b"], 0, source, scale),
        "mean": grown(p["mean"], 0, source, scale), "var": variance.astype(np.float32),
        "scale": grown(p["scale"], 0, source), "bias": grown(p["bias"], 0, source),
    }, np.ones(len(source))  # fmt: skip


def in_affine(p, source, scale):
    """The scale sits in the norm's scale and bias."""
    same = {name: grown(p[name], 0, source) for name in ("w", "b", "mean", "var")}
    return {**same, "scale": grown(p["scale"], 0, source, scale), "bias": grown(p["bias"], 0, source, scale)}, scale


def in_both(p, source, scale):
    """Half of it here, half of it there."""
    half, _ = in_weights(p, source, np.sqrt(scale))
    half.update(scale=grown(p["scale"], 0, source, scale), bias=grown(p["bias"], 0, source, scale))
    return half, scale


@pytest.mark.parametrize("mode", [0, 1], ids=["lossless", "keep"])
@pytest.mark.parametrize("factor", [1.5, 2])
@pytest.mark.parametrize("way", [in_weights, in_affine, in_both])
def test_conv_batchnorm(way, factor, mode):
    p = drawn(w=(8, 3, 3, 3), b=(8,), scale=(8,), bias=(8,), mean=(8,), var=(8,), v=(4, 8, 3, 3), c=(4,))
    source, scale = copies(8, factor, seed=2)
    producer, seen = way(p, source, scale)
    wide = {**p, **producer, "v": grown(p["v"], 1, source, shares(source, seen))}
    result = restores(net(CONV, **p), net(CONV, **wide), "w", 8, **modes(8, len(source))[mode])
    assert ways(result) == [(len(source), 8, "lossless")]


def test_norm_that_cannot_be_folded():
    """The norm's input is read by others too: the copies go through it as it stands."""
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  n = BatchNormalization(a, scale, bias, mean, var)  r = Relu(n)  s = Add(a, r)
        u = Conv<pads=[1,1,1,1]>(s, v, c)  t = Conv<pads=[1,1,1,1]>(r, t_w)  y = Add(t, u)
    }"""
    p = drawn(
        w=(8, 3, 1, 1), b=(8,), scale=(8,), bias=(8,), mean=(8,), var=(8,), v=(4, 8, 3, 3), c=(4,), t_w=(4, 8, 3, 3)
    )
    source, scale = copies(8, 1.5, seed=3)
    wide = {**p, "w": grown(p["w"], 0, source, scale), "b": grown(p["b"], 0, source, scale)}
    wide.update(mean=grown(p["mean"], 0, source, scale), var=grown(p["var"], 0, source))  # a n scales as well
    wide.update(scale=grown(p["scale"], 0, source), bias=grown(p["bias"], 0, source, scale))
    wide.update(
        v=grown(p["v"], 1, source, shares(source, scale)), t_w=grown(p["t_w"], 1, source, shares(source, scale))
    )
    result = restores(net(body, **p), net(body, **wide), "w", 8)
    assert result.unfolded, "the norm is still there"


@pytest.mark.parametrize("mode", [0, 1], ids=["lossless", "keep"])
def test_residual(mode):
    """Two producers are added: both hold the copy, with one scale."""
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  r = Relu(a)  m = Conv<pads=[1,1,1,1]>(r, m_w, m_b)  q = Relu(m)
        u = Conv<pads=[1,1,1,1]>(q, u_w, u_b)  s = Add(r, u)  t = Relu(s)  y = Conv(t, v, c)
    }"""
    p = drawn(
        w=(8, 3, 1, 1), b=(8,), m_w=(6, 8, 3, 3), m_b=(6,), u_w=(8, 6, 3, 3), u_b=(8,), v=(4, 8, 1, 1), c=(4,)
    )  # fmt: skip
    source, scale = copies(8, 1.5, seed=4)
    wide = {**p, **{name: grown(p[name], 0, source, scale) for name in ("w", "b", "u_w", "u_b")}}
    wide["m_w"] = grown(p["m_w"], 1, source, shares(source, scale, seed=5))
    wide["v"] = grown(p["v"], 1, source, shares(source, scale, seed=6))
    settings = [{"lossless": True}, {"keep_layers": (("^a$", 8 / 12),)}][mode]
    result = restores(net(body, **p), net(body, **wide), "w", 8, **settings)
    assert ways(result) == [(12, 8, "lossless")] and result.plans[0].group.coupled


def test_depthwise():
    """The scale of a copy may change on the way: here in the depthwise weights."""
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  r = Relu(a)  d = Conv<group=GROUPS, pads=[1,1,1,1]>(r, d_w, d_b)  q = Relu(d)
        y = Conv(q, v, c)
    }"""
    p = drawn(w=(8, 3, 1, 1), b=(8,), d_w=(8, 1, 3, 3), d_b=(8,), v=(4, 8, 1, 1), c=(4,))
    source, scale = copies(8, 2, seed=7)
    inner = np.where(np.arange(16) < 8, 1.0, np.linspace(0.5, 2.0, 16))
    wide = {**p, "w": grown(p["w"], 0, source, scale), "b": grown(p["b"], 0, source, scale)}
    wide.update(d_w=grown(p["d_w"], 0, source, inner), d_b=grown(p["d_b"], 0, source, inner * scale))
    wide["v"] = grown(p["v"], 1, source, shares(source, scale * inner))
    small, large = (net(body.replace("GROUPS", str(n)), **q) for n, q in ((8, p), (16, wide)))
    result = restores(small, large, "w", 8)
    assert ways(result) == [(16, 8, "lossless")] and shape_of(result.model, "d_w") == (8, 1, 3, 3)


def test_concat():
    """Each of two concatenated layers has copies of its own channels."""
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  e = Conv<pads=[1,1,1,1]>(x, e_w, e_b)  j = Concat<axis=1>(a, e)  r = Relu(j)
        y = Conv(r, v, c)
    }"""
    p = drawn(w=(8, 3, 1, 1), b=(8,), e_w=(6, 3, 3, 3), e_b=(6,), v=(4, 14, 1, 1), c=(4,))
    one, two = copies(8, 1.5, seed=8), copies(6, 1.5, seed=9)
    wide = {**p, "w": grown(p["w"], 0, *one), "b": grown(p["b"], 0, *one)}
    wide.update(e_w=grown(p["e_w"], 0, *two), e_b=grown(p["e_b"], 0, *two))
    columns = np.concatenate([one[0], two[0] + 8])
    wide["v"] = grown(p["v"], 1, columns, np.concatenate([shares(*one), shares(*two)]))
    result = restores(net(body, **p), net(body, **wide), "w", 8)
    assert ways(result) == [(12, 8, "lossless"), (9, 6, "lossless")]


def test_near_copies_stay():
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    source, scale = copies(8, 2)
    near = np.ones(p["w"][source].shape)
    near[8:, 0] += 1e-3 * np.arange(1, 9)
    wide = {**p, "w": grown(p["w"], 0, source, scale) * near.astype(np.float32), "b": grown(p["b"], 0, source, scale)}
    wide["v"] = grown(p["v"], 1, source)
    result = compressed(net(GEMM, **wide), lossless=True)
    assert not result.shrinks and text(result.plans[0].reason) == "no channel is free"


@pytest.mark.parametrize("op", ["Sigmoid", "Elu", "HardSwish", "Clip(a, zero, six)"])
def test_scaled_copies_behind_what_passes_no_scale_stay(op):
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    source, scale = copies(8, 2)
    wide = {
        **p,
        "w": grown(p["w"], 0, source, scale),
        "b": grown(p["b"], 0, source, scale),
        "v": grown(p["v"], 1, source),
    }
    wide.update(zero=np.array(0, np.float32), six=np.array(6, np.float32))
    body = GEMM.replace("Relu(a)", op if "(" in op else f"{op}(a)")
    assert not compressed(net(body, **wide), lossless=True).shrinks
    same = {**wide, "w": grown(p["w"], 0, source), "b": grown(p["b"], 0, source)}  # scale 1 passes anything
    exact = net(body, **same)
    result = compressed(exact, lossless=True)
    assert shape_of(result.model, "w")[0] == 8 and difference(exact, result.model) <= TOLERANCE


def test_negative_scales_stay():
    """A copy with another sign is one behind linear ops only: nothing promises that it is found."""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    source, scale = copies(8, 2)
    wide = {
        **p,
        "w": grown(p["w"], 0, source, -scale),
        "b": grown(p["b"], 0, source, -scale),
        "v": grown(p["v"], 1, source),
    }
    wide["w"][:8], wide["b"][:8] = p["w"], p["b"]
    wide = net(GEMM, **wide)
    result = compressed(wide, lossless=True)
    # Copies of one channel are positive copies of each other, and merge among themselves.
    assert shape_of(result.model, "w")[0] == 8 + len({*source[8:]})
    assert difference(wide, result.model) <= TOLERANCE


def test_a_quotient_passes_the_scale_of_its_numerator():
    """As where sums over a graph's neighbours, or the frames of a mask, are divided by their number."""
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w, b)  l = ReduceL2<axes=[1]>(x)  q = Div(a, l)  y = Gemm<transB=1>(q, v, c)
    }"""
    p = drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))
    source, scale = copies(8, 2)
    wide = {**p, "w": grown(p["w"], 0, source, scale), "b": grown(p["b"], 0, source, scale)}
    wide["v"] = grown(p["v"], 1, source, shares(source, scale))
    result = restores(net(body, **p), net(body, **wide), "w", 8)
    assert ways(result) == [(16, 8, "lossless")]


def test_a_quotient_passes_no_scale_of_its_denominator():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w)  m = Mul(a, a)  o = Add(m, one)  l = ReduceL2<axes=[1]>(x)  q = Div(l, o)
        y = Gemm<transB=1>(q, v)
    }"""
    p = drawn(w=(8, 6), v=(4, 8), one=(1,))
    p["w"][3] = 2 * p["w"][1]
    result = compressed(net(body, **{**p, "one": np.ones(1, np.float32)}), lossless=True)
    assert not result.shrinks
