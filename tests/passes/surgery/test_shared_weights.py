"""Weights that are used twice are cut once, alike for every reader, or left whole with the reason."""

import pytest
from architectures import ARCHITECTURES
from netkit import compressed, net, shape_of, twin_check

from passes.interface.reason import text

TWICE = "pruned only: {} is read by several nodes"
CASES = {
    "shared-in-parallel": ({"a": None, "c": None}, {"s_w": (6, 3, 3, 3), "s_b": (6,), "c_w": (4, 6, 1, 1)}),
    "shared-head": (
        {"a": TWICE.format("h_w"), "c": TWICE.format("y_w")},
        {"a_w": (6, 3, 3, 3), "b_w": (6, 6, 3, 3), "h_w": (5, 6, 1, 1), "h_b": (5,), "y_w": (4, 5, 1, 1)},
    ),
    "unrolled": ({"a": TWICE.format("r_w")}, {"a_w": (6, 6), "r_w": (6, 6), "y_w": (4, 6)}),
    "unrolled-conv": ({"a": TWICE.format("r_w")}, {"a_w": (6, 3, 3, 3), "r_w": (6, 6, 3, 3), "r_b": (6,)}),
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
        {"a": TWICE.format("c_w"), "c": None, "e": None},
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
