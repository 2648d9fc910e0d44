"""Weights that are used twice are cut once, alike for every reader, or left whole with the reason."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import compressed, engine, net, shape_of, twin_check

from passes.interface.reason import text
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings

CASES = {
    "shared-in-parallel": ({"a": None, "c": None}, {"s_w": (6, 3, 3, 3), "s_b": (6,), "c_w": (4, 6, 1, 1)}),
    "shared-head": (
        {"a": None, "c": None},
        {"a_w": (6, 3, 3, 3), "b_w": (6, 6, 3, 3), "h_w": (5, 6, 1, 1), "h_b": (5,), "y_w": (4, 5, 1, 1)},
    ),
    "unrolled": (
        {"a": "pruned only: no scale passes through h0 (Tanh)"},
        {"a_w": (6, 6), "r_w": (6, 6), "y_w": (4, 6)},
    ),
    "unrolled-conv": (
        {"a": "pruned only: no kept channel has a cosine of 0.1 or more"},
        {"a_w": (6, 3, 3, 3), "r_w": (6, 6, 3, 3), "r_b": (6,)},
    ),
    "tied-embedding": (
        {"e": "pruned only: the weights of y are computed in the graph", "a": None},
        {"e_w": (300, 8), "a_w": (8, 12), "b_w": (12, 8)},
    ),
    "tied-embedding-norm": (
        {"e": "n (LayerNormalization) normalises over it", "a": None},
        {"e_w": (300, 16), "a_w": (16, 12), "b_w": (12, 16)},
    ),
    "shared-bias": ({"a": None}, {"a_w": (6, 6), "c_w": (6, 6), "b": (6,), "y_w": (6, 4)}),
    "there-and-back": ({"a": "pruned only: the weights of y are computed in the graph"}, {"w": (6, 6)}),
    "shared-weights": (
        {"a": None, "c": None, "e": None},
        {"a_w": (6, 3, 3, 3), "a_b": (6,), "c_w": (4, 6, 1, 1), "e_w": (5, 4, 1, 1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_weight_that_is_used_twice(name):
    """By group the reason, by tensor the shape at half width."""
    reasons, shapes = CASES[name]
    result = compressed(ARCHITECTURES[name].model, keep=0.5)
    found = {p.group.name: text(p.reason) for p in result.plans}
    assert {group: found[group] for group in reasons} == reasons
    assert {tensor: shape_of(result.model, tensor) for tensor in shapes} == shapes


SIAMESE = net(
    """net (float[N,6] x, float[N,6] z) => (float[N,4] y) {
        a = Gemm(x, a_w, a_b)  ar = Relu(a)  b = Gemm(ar, b_w, b_b)  c = Gemm(z, a_w, a_b)  cr = Relu(c)
        d = Gemm(cr, b_w, b_b)  y = Sub(b, d)
    }""",
    a_w=(6, 16), a_b=(16,), b_w=(16, 4), b_b=(4,),
)  # fmt: skip
"""One encoder for both inputs, and nothing behind it that could be solved."""


def test_layers_that_share_weights_lose_less_where_samples_tell_what_they_carried():
    """What takes over from removed channels suits both readers: the second input is another one than the first."""
    rng = np.random.default_rng(0)
    x, z = (rng.standard_normal((96, 6), np.float32) for _ in range(2))
    feeds = {"x": x, "z": 0.5 * z + 1}
    lost = {}
    for method in ("prune", "reconstruct"):
        samples = CalibrationSamples(feeds, True, engine)
        settings = CompressSettings(keep=0.5, method=method, allocation="uniform")
        result = compress(SIAMESE, settings, samples=samples)
        assert shape_of(result.model, "b_w") == (8, 4) and result.plans[0].method == method
        small, twin, whole = (engine(m)(feeds)["y"] for m in (result.model, result.twin(), SIAMESE))
        np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())
        lost[method] = np.square(small - whole).sum() / np.square(whole).sum()
    assert lost["reconstruct"] < 0.5 * lost["prune"], lost


def test_what_is_tied_stays_tied():
    """A weight that is read as it is and transposed, is there once before and after."""
    result = twin_check(ARCHITECTURES["there-and-back"].model, keep=0.5)
    assert [(t.name, list(t.dims)) for t in result.model.graph.initializer] == [("w", [6, 6])]


def test_a_weight_that_is_an_output_stays_whole():
    """The layer behind it shrinks."""
    body = """net (float[N,6] x) => (float[N,4] y, float[6,12] a_w) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  y = MatMul(br, y_w)
    }"""
    result = twin_check(net(body, a_w=(6, 12), b_w=(12, 10), y_w=(10, 4)), keep=0.5)
    reasons = {p.group.name: text(p.reason) for p in result.plans}
    assert reasons == {"a": "a_w is a graph output", "b": None, "y": "y is a graph output"}
    assert shape_of(result.model, "a_w") == (6, 12) and shape_of(result.model, "y_w") == (5, 4)
