"""Inputs as constants, and the branches that they decide."""

import numpy as np
import onnx
import pytest
from netkit import array_of, check, engine, net, run, twin_check

from passes.transforms.constant_branches import decide_branches
from passes.transforms.fix_inputs import fix_inputs

RATE = """net (float[N,4] x, int64 rate) => (float[N,3] y) {
    wide = Equal(rate, high)
    y = If(wide) <
        then_branch = a () => (float[N,3] t) { h = Gemm<transB=1>(x, w, b)  r = Relu(h)  t = MatMul(r, v) },
        else_branch = c () => (float[N,3] u) { h = Gemm<transB=1>(x, w2)  u = Neg(h) }
    >
}"""
WEIGHTS = {"w": (5, 4), "b": (5,), "v": (5, 3), "w2": (3, 4), "high": np.int64(16000)}
X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


def made(body=RATE, **weights):
    return net(body, **(weights or {k: np.array(v) if isinstance(v, np.int64) else v for k, v in WEIGHTS.items()}))


def fixed(model, feeds=None, **values):
    """The model with inputs fixed: it is valid, has no such inputs, and computes what the original does."""
    before = model.SerializeToString(deterministic=True)
    result = fix_inputs(model, values, engine)
    assert model.SerializeToString(deterministic=True) == before
    check(result)
    assert not values.keys() & {v.name for v in result.graph.input} or model.ir_version < 4
    feeds = {"x": X} if feeds is None else feeds
    for one, two in zip(run(model, {**feeds, **values}), run(result, feeds), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    return result


def ops(model):
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize(("rate", "left"), [(16000, ["Gemm", "Relu", "MatMul"]), (8000, ["Gemm", "Neg"])])
def test_the_decided_branch_takes_the_place_of_its_if(rate, left):
    result = fixed(made(), rate=np.array(rate))
    assert ops(result) == left
    assert {t.name for t in result.graph.initializer} == ({"w", "b", "v"} if rate == 16000 else {"w2"})
    assert [v.name for v in result.graph.input] == ["x"] and [v.name for v in result.graph.output] == ["y"]


def test_what_the_branch_holds_shrinks():
    model = fixed(made(), rate=np.array(16000))
    result = twin_check(model, keep=0.5)
    assert array_of(result.model, "v").shape == (3, 3)


def test_names_are_made_unique():
    """Two Ifs whose branches use the same names, one of them inside the other, and a name of the outer graph."""
    model = made(
        """net (float[N,4] x, bool c, bool d) => (float[N,4] y) {
            h = Relu(x)
            p = If(c) <
                then_branch = f () => (float[N,4] t) {
                    k = Constant<value_float=2.0>()  m = Mul(h, k)
                    t = If(d) <then_branch = g () => (float[N,4] tt) { q = Add(m, k)  tt = Neg(q) },
                               else_branch = g2 () => (float[N,4] ee) { q = Sub(m, k)  ee = Neg(q) }>
                },
                else_branch = e () => (float[N,4] u) { u = Neg(x) }
            >
            s = If(c) <
                then_branch = f () => (float[N,4] t) { k = Constant<value_float=3.0>()  m = Mul(p, k)  t = Exp(m) },
                else_branch = e () => (float[N,4] u) { u = Neg(x) }
            >
            y = Add(s, w)
        }""",
        w=(4,),
    )  # fmt: skip
    for c, d in ((True, True), (True, False), (False, True)):
        result = fixed(model, c=np.array(c), d=np.array(d))
        assert "If" not in ops(result)
    result = fixed(model, {"x": X, "d": np.array(True)}, c=np.array(True))
    assert ops(result).count("If") == 1


def test_a_branch_that_hands_on_what_it_does_not_make():
    model = made(
        """net (float[N,4] x, bool c) => (float[N,4] y, float[N,4] z, float[4] k) {
            y, z, k = If(c) <
                then_branch = f () => (float[N,4] x, float[N,4] r, float[4] h) <float[4] h = {1, 2, 3, 4}> {
                    r = Relu(x)
                },
                else_branch = e () => (float[N,4] n, float[N,4] n, float[4] v) { n = Neg(x)  v = Identity(w) }
            >
        }""",
        w=(4,),
    )  # fmt: skip
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for c in (True, False):
        expected = [X, np.maximum(X, 0), np.float32([1, 2, 3, 4])] if c else [-X, -X, array_of(model, "w")]
        result = fix_inputs(model, {"c": np.array(c)}, engine)
        assert "If" not in ops(result)
        for one, two in zip(run(result, {"x": X}), expected, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_default_can_be_fixed():
    model = made("net (float[N,4] x, float[4] gain) => (float[N,4] y) { g = Mul(gain, w)  y = Mul(x, g) }", w=(4,),
                 gain=np.ones(4, np.float32))  # fmt: skip
    result = fixed(model, gain=np.float32([1, 2, 3, 4]))
    assert ops(result) == ["Mul"]
    np.testing.assert_array_equal(array_of(result, "g"), array_of(model, "w") * np.float32([1, 2, 3, 4]))


def test_before_ir_version_4_a_fixed_input_is_listed_as_initializers_are():
    body = "net (float[N,4] x, float s) => (float[N,4] y) { y = Mul(x, s) }"
    model = net(body, opset=7, ir_version=3)
    result = fix_inputs(model, {"s": np.float32(2)}, engine)
    assert [v.name for v in result.graph.input] == ["x", "s"] and array_of(result, "s") == 2
    check(result)


def test_a_condition_that_callers_may_override_decides_nothing():
    model = made("""net (float[N,4] x, bool c) => (float[N,4] y) {
        y = If(c) <then_branch = f () => (float[N,4] t) { t = Relu(x) },
                   else_branch = e () => (float[N,4] u) { u = Mul(x, w) }>
    }""", c=np.array(True), w=(4,))  # fmt: skip
    assert not decide_branches(model)
