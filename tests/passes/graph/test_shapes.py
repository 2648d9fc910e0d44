"""Concrete shapes, what is dynamic in them, and values that are computed from them."""

import numpy as np
import pytest
from netkit import ints, net

from passes.graph.shapes import STAND_INS, infer_shapes

BATCH, OTHER = STAND_INS[0]


def test_symbols_get_a_size_and_the_same_one_everywhere():
    info = infer_shapes(net("net (float[N,3,H,W] x, float[N,H] z) => (float[N,3,H,W] y) { y = Relu(x)  q = Relu(z) }"))
    assert info.shapes["y"] == (BATCH, 3, OTHER, OTHER) and info.shapes["q"] == (BATCH, OTHER)
    assert {(n, a) for n, a in info.dynamic if n in ("y", "q")} == {("y", 0), ("y", 2), ("y", 3), ("q", 0), ("q", 1)}


def test_a_fixed_axis_is_not_dynamic():
    info = infer_shapes(
        net("net (float[N,3,8,8] x) => (float[N,4,4,4] y) { y = Conv<strides=[2,2]>(x, w) }", w=(4, 3, 1, 1))
    )
    assert info.shapes["y"] == (BATCH, 4, 4, 4) and {a for n, a in info.dynamic if n == "y"} == {0}


def test_what_dynamic_axes_are_flattened_into_is_dynamic():
    info = infer_shapes(net("net (float[N,3,H,2] x) => (float[N,M] y) { y = Flatten(x) }"))
    assert info.shapes["y"] == (BATCH, 6 * OTHER) and ("y", 1) in info.dynamic


def test_given_shapes_are_taken():
    model = net("net (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    info = infer_shapes(model, {"x": (5, 3, 10, 20)})
    assert info.shapes["y"] == (5, 3, 10, 20)
    assert {a for n, a in info.dynamic if n == "x"} == {0, 2, 3}, "given for now, dynamic still"


VIEW = """net (float[N,4,6] x) => (float[N,M] y) {
    s = Shape(x)  n = Gather<axis=0>(s, zero)  m = Unsqueeze(n, at)  c = Gather<axis=0>(s, one)  d = Unsqueeze(c, at)
    k = Mul(d, six)  t = Concat<axis=0>(m, k)  y = Reshape(x, t)
}"""


def test_computed_targets_of_reshape():
    info = infer_shapes(net(VIEW, zero=np.array(0), one=np.array(1), at=ints(0), six=ints(6)))
    assert info.shapes["y"] == (BATCH, 24) and ("y", 1) not in info.dynamic
    np.testing.assert_array_equal(info.values["t"], [BATCH, 24])
    np.testing.assert_array_equal(info.values["k"], [24])
    assert info.origins["t"] == info.origins["k"] == {"x"}
    assert {"s", "n", "m", "t"} <= info.varying and not {"c", "d", "k"} & info.varying


@pytest.mark.parametrize(("bounds", "value"), [("start=1", [4, 6]), ("end=2", [BATCH, 4]), ("start=-2, end=-1", [4])])
def test_parts_of_a_shape(bounds, value):
    info = infer_shapes(net(f"net (float[N,4,6] x) => (int64[M] s) {{ k = Shape<{bounds}>(x)  s = Identity(k) }}"))
    np.testing.assert_array_equal(info.values["k"], value)


def test_random_values_are_not_values():
    body = "net (float[N,3] x) => (float[N,3] y) { r = RandomNormalLike(k)  a = Relu(k)  b = Mul(a, r)  y = Mul(x, b) }"
    info = infer_shapes(net(body, k=(3,)))
    assert "a" in info.values and not {"r", "b"} & info.values.keys()


def test_nothing_large_is_evaluated():
    body = "net (float[N,3] x) => (float[N,3] y) { e = Expand(k, s)  m = ReduceMax<keepdims=0>(e)  y = Mul(x, m) }"
    info = infer_shapes(net(body, k=(1,), s=ints(100, 1000)))
    assert info.shapes["e"] == (100, 1000) and "e" not in info.values


def test_the_observer_is_asked_only_for_what_is_missing():
    asked = []

    def observer(model, sizes, names):
        asked.append((dict(sizes), list(names)))
        return {"a": (sizes["x"][0], 5), "b": (sizes["x"][0], 5)}

    body = "net (float[N,3] x) => (float[N,4] y) { k = Relu(x)  a = custom.Foo(k)  b = Relu(a)  y = MatMul(k, w) }"
    info = infer_shapes(net(body, w=(3, 4)), None, observer)
    assert asked == [({"x": (n, 3)}, ["a", "b"]) for n, _ in STAND_INS]
    assert info.shapes["b"] == (BATCH, 5) and info.dynamic >= {("b", 0)} and ("b", 1) not in info.dynamic


def test_no_observer_is_needed_where_all_is_known():
    def observer(*_):
        raise AssertionError("asked for nothing")

    infer_shapes(net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), None, observer)


def test_without_an_observer_it_stays_unknown():
    info = infer_shapes(net("net (float[N,3] x) => (float[N,3] y) { a = custom.Foo(x)  y = Relu(a) }"))
    assert "a" not in info.shapes and "y" not in info.shapes


def test_a_batch_that_is_dynamic_in_name_only():
    """A Reshape to a batch of one says so; the axis is still treated as dynamic."""
    info = infer_shapes(net("net (float[N,4,6] x) => (float[1,24] y) { y = Reshape(x, t) }", t=ints(1, 24)))
    assert info.shapes["x"] == (1, 4, 6) and info.shapes["y"] == (1, 24) and ("x", 0) in info.dynamic


def test_a_batch_that_a_reshape_moves_elsewhere_is_one_in_name_only():
    """`[1, heads, width, -1]`: with two samples it would put half of each into the last axis."""
    body = "net (float[N,6,4] x) => (float[1,2,3,L] y) { y = Reshape(x, t) }"
    info = infer_shapes(net(body, t=ints(1, 2, 3, -1)))
    assert info.shapes["y"] == (1, 2, 3, 4) and info.rigid == "y"


@pytest.mark.parametrize("target", [(-1, 2, 3, 4), (0, 2, 3, 4), (-1, 3, 4), (0, -1)])
def test_a_batch_that_stays_outside_is_dynamic(target):
    info = infer_shapes(net("net (float[N,6,4] x) => (float[] y) { y = Reshape(x, t) }", t=ints(*target)))
    assert info.rigid is None and ("y", 0) in info.dynamic
