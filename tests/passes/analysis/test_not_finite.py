"""NaN and infinite weights freeze the channels that they make and read, with the reason, and no others."""

import numpy as np
import pytest
from netkit import net

from onnx_merge import inspect_model, optimize
from passes.interface.reason import text

NET = """net (float[N,6] x) => (float[N,3] y, float[N,3] z)
         { s = MatMul(x, s_w)  q = Relu(s)  a = MatMul(q, a_w)  r = Relu(a)  b = Gemm(r, b_w, b_b)  t = Relu(b)
           y = MatMul(t, c_w)  z = MatMul(r, d_w) }
"""


def weights(bad, place):
    rng = np.random.default_rng(0)
    made = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "s_w": (6, 4),
            "a_w": (4, 12),
            "b_w": (12, 8),
            "b_b": (8,),
            "c_w": (8, 3),
            "d_w": (12, 3),
        }.items()
    }
    made[place].reshape(-1)[0] = bad
    return made


@pytest.mark.parametrize("place", ["b_w", "b_b"])
@pytest.mark.parametrize(("bad", "what"), [(np.nan, "hold NaN"), (np.inf, "hold infinity"), (-np.inf, "hold infinity")])
def test_the_group_stays_whole_and_the_others_shrink(place, bad, what):
    model = net(NET, **weights(bad, place))
    reason = f"b (Gemm) has weights that {what}"
    found = {g.name: text(g.reason) for g in inspect_model(model).groups if g.name in "sab"}
    assert found == {"s": None, "a": reason if place == "b_w" else None, "b": reason}
    _, result = optimize(model, keep=0.5, method="merge", allocation="uniform")
    assert {g.name: (g.kept, g.status) for g in result.groups if g.name in "sb"} == {
        "s": (2, "shrunk"),
        "b": (8, "frozen"),
    }


def test_beyond_the_range_of_float32():
    body = NET.replace("float[", "double[")
    made = {name: array.astype(np.float64) for name, array in weights(1.0, "b_w").items()}
    made["b_w"][0, 0] = 1e300
    reasons = {g.name: text(g.reason) for g in inspect_model(net(body, **made)).groups}
    assert reasons["b"] == "b (Gemm) has weights that are beyond float32's range" and reasons["s"] is None


def test_weights_that_are_computed():
    """Divided by their norm, of which one is 0."""
    body = """net (float[N,6] x) => (float[N,3] y)
              { s = MatMul(x, s_w)  q = Relu(s)  a = MatMul(q, a_w)  r = Relu(a)
                n = ReduceL2<axes=[1], keepdims=1>(b_w)  w = Div(b_w, n)
                b = Gemm<transB=1>(r, w, b_b)  t = Tanh(b)  y = MatMul(t, c_w) }"""
    made = weights(0.0, "b_w")
    made["b_w"] = made["b_w"].T.copy()
    made["b_w"][3] = 0
    del made["d_w"]
    reasons = {g.name: text(g.reason) for g in inspect_model(net(body, **made)).groups}
    assert reasons["b"] == "b (Gemm) has weights that hold NaN" and reasons["s"] is None
