"""Concrete shapes, what is dynamic in them, and values that are computed from them."""

from functools import partial

import numpy as np
import pytest
from netkit import engine, ints, net, observer, twin_check

from passes.shapes import inference
from passes.shapes.inference import infer_shapes as infer_shapes_with
from passes.shapes.sizes import Size
from passes.shapes.tuning import SHAPES

infer_shapes = partial(infer_shapes_with, engine=engine)

BATCH, OTHER = SHAPES.default_sizes[0]


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


BATCHED = "net (float[N,3,8,8] x) => (float[N,5] y) { a = Conv(x, w)  b = MaxPool<kernel_shape=[2,2]>(a)  c = Relu(b)  "


@pytest.mark.parametrize(
    ("end", "needed"),
    [
        ("d = Flatten(c)  y = Gemm(d, v) }", False),
        ("d = GlobalAveragePool(c)  e = Flatten(d)  y = Gemm(e, u) }", False),
        ("d = Reshape(c, t)  y = Gemm(d, v) }", True),
        ("e = Slice(c, z, t, z)  d = Flatten(e)  y = Gemm(d, v) }", True),
    ],
)
def test_where_only_the_batch_varies_runs_show_what_symbolic_inference_would(end, needed, monkeypatch):
    model = net(
        BATCHED + end,
        w=(4, 3, 1, 1),
        v=(64, 5),
        u=(4, 5),
        t=ints(-1, 64)[:2] if "Reshape" in end else ints(9),
        z=ints(0),
    )
    wanted = infer_shapes(model)
    asked = []
    monkeypatch.setattr(inference, "symbolic_dims", lambda *given: asked.append(1) or (set(), set()))
    found = infer_shapes(model)
    assert bool(asked) == needed and (needed or found.dynamic == wanted.dynamic)
    monkeypatch.undo()
    monkeypatch.setattr(inference, "runs_suffice", lambda *given: False)
    assert infer_shapes(model).dynamic == wanted.dynamic


def test_a_size_in_which_a_dynamic_one_cancels_is_fixed():
    """The number of units behind a layer that runs along a dynamic axis, as exporters flatten them."""
    body = """net (float[1,8,W] x) => (float[L,1,C] y) { p = AveragePool<kernel_shape=[16], strides=[16], pads=[8,8]>(x)
              t = Transpose<perm=[2,0,1]>(p)  u = Reshape(t, apart)  y = Reshape(u, joined) }"""
    info = infer_shapes(net(body, apart=ints(0, 0, 2, 4), joined=ints(0, 0, -1)))
    assert {axis for name, axis in info.dynamic if name == "y"} == {0}


def test_given_shapes_are_taken():
    model = net("net (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    info = infer_shapes(model, [{"x": (5, 3, 10, 20)}])
    assert info.shapes["y"] == (5, 3, 10, 20)
    assert {a for n, a in info.dynamic if n == "x"} == {0, 2, 3}, "given for now, dynamic still"


RESHAPED = """net (float[N,4,6] x) => (float[N,M] y) {
    s = Shape(x)  n = Gather<axis=0>(s, zero)  m = Unsqueeze(n, at)  c = Gather<axis=0>(s, one)  d = Unsqueeze(c, at)
    k = Mul(d, six)  t = Concat<axis=0>(m, k)  y = Reshape(x, t)
}"""


def test_computed_targets_of_reshape():
    info = infer_shapes(net(RESHAPED, zero=np.array(0), one=np.array(1), at=ints(0), six=ints(6)))
    assert info.shapes["y"] == (BATCH, 24) and ("y", 1) not in info.dynamic
    np.testing.assert_array_equal(info.values["t"], [BATCH, 24])
    np.testing.assert_array_equal(info.values["k"], [24])
    assert info.origins["t"].tolist() == [{("x", 0)}, {("x", 1)}] and info.origins["k"].tolist() == [{("x", 1)}]
    assert {"s", "n", "m", "t"} <= info.varying.keys() and not {"c", "d", "k"} & info.varying.keys()
    assert info.varying["t"].tolist() == [True, False], "each number by itself"


@pytest.mark.parametrize(("bounds", "value"), [("start=1", [4, 6]), ("end=2", [BATCH, 4]), ("start=-2, end=-1", [4])])
def test_parts_of_a_shape(bounds, value):
    info = infer_shapes(net(f"net (float[N,4,6] x) => (int64[M] s) {{ k = Shape<{bounds}>(x)  s = Identity(k) }}"))
    np.testing.assert_array_equal(info.values["k"], value)


def test_random_values_are_not_values():
    body = """net (float[N,3] x) => (float[N,3] y) {
        s = Shape(x)  f = Cast<to=1>(s)  r = RandomNormalLike(f)  a = Relu(f)  b = Mul(a, r)  y = Mul(x, b) }"""
    info = infer_shapes(net(body))
    assert "a" in info.values and not {"r", "b"} & info.values.keys()


def test_nothing_large_is_evaluated():
    body = "net (float[N,3] x) => (float[N,3] y) { e = Expand(k, s)  m = ReduceMax<keepdims=0>(e)  y = Mul(x, m) }"
    info = infer_shapes(net(body, k=(1,), s=ints(100, 1000)))
    assert info.shapes["e"] == (100, 1000) and "e" not in info.values


def test_of_a_fixed_model_the_observer_is_asked_only_for_what_is_missing():
    """Twice: what depends on the values of the inputs differs."""
    asked = []

    def observer(model, sizes, names):
        asked.append((dict(sizes), list(names)))
        return {"a": (2, 5), "b": (len(asked), 5)}

    body = (
        "net (float[2,3] x) => (float[2,4] y) { k = Relu(x)  a = custom.Foo(k)  b = custom.Bar(a)  y = MatMul(k, w) }"
    )
    info = infer_shapes(net(body, w=(3, 4)), (), observer)
    assert asked == [({"x": (2, 3)}, ["a", "b"])] * 2
    assert info.shapes["a"] == (2, 5) and info.dynamic == {("b", 0)}


def test_no_observer_is_needed_where_all_is_known():
    def observer(*_):
        raise AssertionError("asked for nothing")

    infer_shapes(net("net (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"), (), observer)


def test_what_runs_show_wins():
    """Inference would say otherwise; each assignment is run."""
    body = "net (float[N,3] x) => (float[N,4] y) { k = Relu(x)  y = MatMul(k, w) }"
    model = net(body, w=(3, 4))
    info = infer_shapes(
        model, [{"x": (n, 3)} for n in (7, 1, 5)], lambda _, sizes, names: {"k": (sizes["x"][0] + 1, 3)}
    )
    assert (
        info.shapes["k"] == (8, 3) and info.sizes["k"] == (Size((8, 2, 6)), 3) and info.sizes["y"][0] == Size((7, 1, 5))
    )


def test_what_depends_on_a_symbol_is_dynamic_though_it_is_the_same_at_all_sizes_tried():
    body = "net (float[N,H] x) => (float[N,K] y) { y = Slice(x, zero, most, one) }"
    info = infer_shapes(net(body, zero=ints(0), most=ints(48), one=ints(1)))
    assert info.sizes["y"][1] == 48 and ("y", 1) in info.dynamic


@pytest.mark.parametrize("name", ["?", "", "p2o.DynamicDimension.0", "a b", "1"])
def test_names_of_dims_need_be_no_identifiers(name):
    model = net("net (float[N,4,H] x) => (float[] y) { p = MaxPool<kernel_shape=[2], strides=[2]>(x)  y = Relu(p) }")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = name
    info = infer_shapes(model)
    assert {axis for tensor, axis in info.dynamic if tensor == "y"} == {0, 2}


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


def test_a_batch_of_which_one_sample_alone_was_found_to_run_is_one_in_name_only():
    model = net("net (float[N,6,L] x) => (float[N,6,L] y) { y = Relu(x) }")
    assert infer_shapes(model, [{"x": (1, 6, n)} for n in (5, 9)]).rigid == "the batch"
    assert infer_shapes(model, [{"x": (n, 6, 5)} for n in (1, 2)]).rigid is None


def test_clips_that_ride_in_the_batch_are_no_batch_of_one():
    body = """net (float[N,4,6] x) => (float[N,4,6] y) {
        s = Shape(x)  n = Slice(s, zero, one)  m = Div(n, two)  t = Concat<axis=0>(m, two, four)
        v = Reshape(x, t)  r = Relu(v)  y = Reshape(r, s) }"""
    numbers = {"zero": ints(0), "one": ints(1), "two": ints(2), "four": ints(4, 6)}
    info = infer_shapes(net(body, **numbers), [{"x": (n, 4, 6)} for n in (2, 6)], observer)
    assert info.rigid is None and info.sizes["v"][0] == Size((1, 3))


PADS = """net (float[N,4,H,W] x) => (float[N,4,P,Q] y) {
    s = Shape(x)  h = Slice(s, two, three)  w = Slice(s, three, four)  p = Concat<axis=0>(w, w, h, h)
    n = Shape(p)  m = Sub(eight, n)  z = ConstantOfShape<value = int64[1] {0}>(m)  q = Concat<axis=0>(p, z)
    r = Reshape(q, pairs)  b = Slice(r, last, first, zero, last)  t = Transpose<perm=[1,0]>(b)  k = Reshape(t, last)
    y = Pad(x, k) }"""


def test_the_padding_of_channels_is_known_though_that_of_rows_is_computed():
    """As PyTorch writes it: sizes in reverse, filled up with zeros, turned round."""
    numbers = {"zero": 0, "two": 2, "three": 3, "four": 4, "eight": 8, "last": -1, "first": -(2**63) + 1}
    model = net(PADS, pairs=ints(-1, 2), **{name: ints(value) for name, value in numbers.items()})
    info = infer_shapes(model, [{"x": (2, 4, 5, 7)}, {"x": (3, 4, 9, 6)}])
    assert info.values["k"].tolist() == [0, 0, 5, 7, 0, 0, 5, 7]
    assert info.varying["k"].tolist() == [False, False, True, True] * 2


FILLED = """net (float[N,T,4] x) => (float[N,U,4] y) {
    s = Shape(x)  n = Slice(s, v0, v1)  c = Slice(s, v2, v3)  t = Concat<axis=0>(n, v1, c)  e = Expand(table, t)
    f = Add(c, c)  y = Concat<axis=1>(x, e)
}"""


def test_a_table_that_does_not_fit_a_change_yet_hides_no_number():
    constants = {f"v{k}": ints(k) for k in range(4)}
    info = infer_shapes(net(FILLED, table=np.arange(4, dtype=np.float32).reshape(1, 1, 4), **constants))
    after = info.arithmetic.at({"x": (2, 3, 2)})
    assert after["t"].tolist() == [2, 1, 2] and after["f"].tolist() == [4] and "e" not in after


PARTIAL_ROTARY = """net (float[N,L,6] x) => (float[N,L,5] y) {
    s = Shape(x)  n = Gather(s, one)  p = Range(zero, n, one)  f = Cast<to=1>(p)  c = Unsqueeze(f, last)
    t = Mul(c, rates)  e = Concat<axis=1>(t, t)  k = Cos(e)  z = Shape(k)  w = Gather(z, at)
    a = MatMul(x, a_w)  turned = Slice(a, from, w, last)  kept = Slice(a, w, end, last)  r = Mul(turned, k)
    h = Concat<axis=2>(r, kept)  y = MatMul(h, y_w)
}"""
"""The first four of twelve channels are turned by angles of the position, as in GPT-NeoX: their number is the size of
the cosines, whose other size varies."""


def test_a_fixed_size_of_a_tensor_that_is_made_of_a_varying_one_is_known():
    one, zero = np.array(1, np.int64), np.array(0, np.int64)
    numbers = {"one": one, "zero": zero, "at": ints(1), "last": ints(-1), "from": ints(0), "end": ints(99)}
    model = net(PARTIAL_ROTARY, rates=(1, 2), a_w=(6, 12), y_w=(12, 5), **numbers)
    result = twin_check(model, keep=0.5, method="prune")
    kept = [(len(plan.keep), plan.group.size) for plan in result.plans]
    assert sorted(kept) == [(1, 2), (4, 8), (5, 5)]
