"""Ranges of integer inputs derived from the nodes that read them, and a note where there is none."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge import optimize
from onnx_merge.calibration.load import load_calibration
from onnx_merge.inputs.feeds import random_feeds
from onnx_merge.inputs.integer_inputs import index_bounds, unknown_ranges
from onnx_merge.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["" : {opset}, "own" : 1]>'
SEVEN = "int64[7] seven = {0, 1, 2, 3, 4, 5, 6}"
TABLE = "float[5,2] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}"


def model(nodes, constants="", opset=17, inputs="int64[N,4] i", functions=""):
    constants = f"<{constants}>" if constants else ""
    return onnx.parser.parse_model(
        f"{HEAD.format(opset=opset)} net ({inputs}) => (float y) {constants} {{ {nodes} }} {functions}"
    )


KNOWN = {
    "a sign that is looked at": ("p = Less(i, zero)  y = Gather(table, i)", f"{TABLE}, int64 zero = {{0}}", 5),
    "negative ids from the end, as a choice by flags": (
        """n = Less(i, zero)  p = Not(n)  a = Cast<to=7>(p)  b = Cast<to=7>(n)  e = Add(i, five)
        f = Mul(i, a)  g = Mul(e, b)  s = Add(f, g)  y = Gather(table, s)""",
        f"{TABLE}, int64 zero = {{0}}, int64 five = {{5}}",
        5,
    ),
    "rows of a table": ("y = Gather(table, i)", TABLE, 5),
    "columns of a table": ("y = Gather<axis=-1>(table, i)", TABLE, 2),
    "a table turned round": ("t = Transpose<perm=[1,0]>(table)  y = Gather(t, i)", TABLE, 2),
    "a dequantised table": (
        "d = DequantizeLinear(q, s)  y = Gather(d, i)",
        "int8[3,2] q = {1, 2, 3, 4, 5, 6}, float s = {0.5}",
        3,
    ),
    "elements of a table": ("y = GatherElements<axis=1>(table, i)", TABLE, 2),
    "places in a table": ("u = Unsqueeze(i, last)  y = GatherND(table, u)", f"{TABLE}, int64[1] last = {{-1}}", 2),
    "one-hot by Equal": (
        "u = Unsqueeze(i, last)  y = Equal(u, seven)",
        f"{SEVEN}, int64[1] last = {{-1}}",
        7,
    ),
    "one-hot by Equal in int32": (
        "c = Cast<to=6>(i)  k = Cast<to=6>(seven)  y = Equal(k, c)",
        SEVEN,
        7,
    ),
    "one-hot by a Range": (
        "r = Range(zero, nine, one)  y = Equal(i, r)",
        "int64 zero = {0}, int64 nine = {9}, int64 one = {1}",
        9,
    ),
    "OneHot": ("y = OneHot(i, depth, values)", "int64 depth = {6}, float[2] values = {0, 1}", 6),
    "a length": ("y = Less(seven, i)", SEVEN, 8),
    "a length of a dynamic Range": (
        "s = Shape(i)  n = Gather(s, zero)  r = Range(zero, n, one)  y = Less(r, i)",
        "int64 zero = {0}, int64 one = {1}",
        17,
    ),
    "a clipped one": ("c = Clip(i, zero, nine)  y = Cast<to=1>(c)", "int64 zero = {0}, int64 nine = {9}", 10),
    "a remainder": ("m = Mod(i, nine)  y = Cast<to=1>(m)", "int64 nine = {9}", 9),
    "at most": ("m = Min(i, nine)  y = Cast<to=1>(m)", "int64 nine = {9}", 10),
    "the smaller of two tables": ("a = Gather(table, i)  y = Gather<axis=1>(table, i)", TABLE, 2),
    "a table beyond a comparison": ("e = Equal(i, seven)  y = Gather(table, i)", f"{TABLE}, {SEVEN}", 5),
    "ids with an offset": ("j = Add(i, two)  y = Gather(table, j)", f"{TABLE}, int64 two = {{2}}", 3),
    "ids less an offset": ("j = Sub(i, two)  y = Gather(table, j)", f"{TABLE}, int64 two = {{2}}", 7),
    "padding replaced": (
        "e = Equal(i, two)  w = Where(e, two, i)  y = Gather(table, w)",
        f"{TABLE}, int64 two = {{2}}",
        5,
    ),
    "one column": ("g = Gather<axis=1>(i, two)  y = Gather(table, g)", f"{TABLE}, int64 two = {{2}}", 5),
    "inside a body": (
        """c = Constant<value = bool {1}>()
           y = If(c) <then_branch = t () => (float p) { u = Identity(i)  p = Gather(table, u) },
                      else_branch = e () => (float o) { o = Cast<to=1>(i) }>""",
        TABLE,
        5,
    ),
    "out of a body": (
        """c = Constant<value = bool {1}>()
           j = If(c) <then_branch = t () => (int64 p) { p = Identity(i) },
                      else_branch = e () => (int64 o) { o = Neg(i) }>  y = Gather(table, j)""",
        TABLE,
        5,
    ),
    "the padding of ids": ("e = Equal(i, zero)  y = Cast<to=1>(e)", "int64 zero = {0}", None),
    "a number": ("y = Cast<to=1>(i)", "", None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_the_readers_of_ids_tell(name):
    nodes, constants, bound = KNOWN[name]
    found = model(nodes, constants)
    assert index_bounds(found) == ({} if bound is None else {"i": bound})
    assert unknown_ranges(found) == (["i"] if bound is None else [])


@pytest.mark.parametrize(("batch", "bound"), [("N", 1), ("3", 3)])
def test_boxes_lie_in_a_sample_that_is_there(batch, bound):
    inputs = f"float[{batch},2,8,8] maps, float[K,4] boxes, int64[K] i"
    assert index_bounds(model("y = RoiAlign(maps, boxes, i)", inputs=inputs)) == {"i": bound}


def test_through_a_local_function():
    functions = '<domain: "own", opset_import: ["" : 17]> Look (t, j) => (r) { k = Cast<to=7>(j)  r = Gather(t, k) }'
    assert index_bounds(model("y = own.Look(table, i)", TABLE, functions=functions)) == {"i": 5}


def test_what_needs_no_range():
    """Masks, pixels, truth values, floats, and what is empty."""
    inputs = "int64[N] attention_mask, uint8[N,3,8,8] image, bool[N] b, float[N] x, int64[0] nothing, int64 length"
    assert unknown_ranges(model("y = Identity(x)", inputs=inputs)) == ["length"]


def net(nodes, inputs, **weights):
    found = onnx.parser.parse_model(f"{HEAD.format(opset=17)} net ({inputs}) => (float[N,4] y) {{ {nodes} }}")
    found.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return found


def rand(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_run_says_that_a_range_is_unknown():
    nodes = "c = Cast<to=1>(i)  a = MatMul(c, w)  r = Relu(a)  y = MatMul(r, v)"
    plain = net(nodes, "int64[N,6] i", w=rand(6, 8), v=rand(8, 4))
    said = "the range of input i is unknown: integers in 0..1 were made up; give --calib"
    assert said in optimize(plain, keep=0.5)[1].notes
    assert said in optimize(plain, keep=0.5, method="merge")[1].notes
    assert said not in optimize(plain, keep=0.5, calib={"i": np.arange(60).reshape(10, 6)})[1].notes


def test_a_run_on_ids_that_are_compared():
    """Every class of a one-hot by Equal occurs in what is made up."""
    nodes = """u = Unsqueeze(i, last)  e = Equal(u, classes)  f = Cast<to=1>(e)  a = MatMul(f, w)  r = Tanh(a)
        m = ReduceMean<axes=[1], keepdims=0>(r)  y = MatMul(m, v)"""
    weights = dict(classes=np.arange(20), last=np.array([-1]), w=rand(20, 8), v=rand(8, 4))
    result = optimize(net(nodes, "int64[N,5] i", **weights), keep=0.5)[1]
    assert not [note for note in result.notes if "range" in note]


@pytest.mark.parametrize(("name", "least"), [("lengths", 1), ("seq_len", 1), ("xs_lens", 1), ("lenses", 0), ("ids", 0)])
def test_no_sequence_is_without_a_step(name, least):
    body = f"""s = Shape<start=1, end=2>(x)  n = Squeeze(s)  r = Range(zero, n, one)  u = Unsqueeze({name}, at)
               l = Less(r, u)  y = Cast<to=1>(l)"""
    made = model(body, "int64 zero = {0}, int64 one = {1}, int64[1] at = {1}", inputs=f"float[N,4] x, int64[N] {name}")
    session = Session(made)
    bounds = index_bounds(made)
    assert bounds[name] > 4
    for feeds in (
        random_feeds(session.inputs, 200, 0, {}, bounds),
        load_calibration("synthetic", session.inputs, count=200, model=made).feeds,
    ):
        assert feeds[name].min() == least and feeds[name].max() > 4
