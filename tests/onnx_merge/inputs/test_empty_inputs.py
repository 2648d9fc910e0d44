"""Inputs without axes and inputs of size 0: a run ends well, and reports nothing false about them."""

import numpy as np
import onnx
import onnx.parser
import pytest
from chainnet import filled

from onnx_merge import inspect_model, optimize
from onnx_merge.calibration.load import Calibration, load_calibration
from onnx_merge.calibration.synthetic import synthetic_feeds
from onnx_merge.errors import InputError, OnnxMergeError, UnverifiedError
from onnx_merge.inputs.feeds import random_feeds
from onnx_merge.inputs.user_arrays import conform
from onnx_merge.runtime.batching import batches
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo
from passes.statistics.tensor_store import ScratchSpace

BODY = "a = MatMul(x, w)  r = Relu(a)  {}  y = MatMul(m, v)"
CASES = {
    "a factor": ("float s", "m = Mul(r, s)"),
    "an integer": ("int64 k", "f = Cast<to=1>(k)  m = Add(r, f)"),
    "an index": ("int64 k", "g = Gather(t, k)  m = Add(r, g)"),
    "a flag": ("bool c", "n = Neg(r)  m = Where(c, r, n)"),
    "a length": ("int64 k", "u = Range(zero, k, one)  q = ReduceSum<keepdims=0>(u)  f = Cast<to=1>(q)  m = Add(r, f)"),
    "an empty option": ("float[0] o", "q = ReduceSum<keepdims=0>(o)  m = Add(r, q)"),
    "an empty list of ids": ("int64[0] o", "g = Gather(t, o)  q = ReduceSum<keepdims=0>(g, at0)  m = Add(r, q)"),
    "no truth values": (
        "bool[0] o",
        "f = Cast<to=1>(o)  q = ReduceSum<keepdims=0>(f)  m = Add(r, q)",
    ),
    "an empty row of each sample": ("float[N,0] o", "q = ReduceSum<keepdims=1>(o, at1)  m = Add(r, q)"),
}


def net(name):
    inputs, nodes = CASES[name]
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[N,8] x, {inputs}) => (float[N,4] y) <
        int64 zero = {{0}}, int64 one = {{1}}, int64[1] at0 = {{0}}, int64[1] at1 = {{1}}> {{ {BODY.format(nodes)} }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for tensor, shape in {"w": (8, 12), "v": (12, 4), "t": (5, 12)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), tensor))
    return model


@pytest.mark.parametrize("options", [{}, {"method": "merge"}, {"calib": "none"}, {"calib_samples": 3}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_well(name, options):
    result = optimize(net(name), keep=0.5, **options)[1]
    (group,) = [g for g in result.groups if g.status == "shrunk"]
    assert group.kept == 6 and result.fidelity.samples > 0
    assert not [n for n in result.notes if "not run" in n or "not compared" in n]
    assert {g.name: g.status for g in inspect_model(net(name)).groups}["a"] in ("free", "prune-only")


def test_a_model_of_nothing_but_empty_samples():
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[0,8] x) => (float[0,4] y) {
        a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"""
    model = onnx.parser.parse_model(text)
    for tensor, shape in {"w": (8, 12), "v": (12, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), tensor))
    with pytest.raises(UnverifiedError, match="they hold nothing"):
        optimize(model, keep=0.5)
    smaller, result = optimize(model, keep=0.5, unverified=True)
    assert result.after.params < result.before.params
    assert [d.dim_value for d in smaller.graph.input[0].type.tensor_type.shape.dim] == [0, 8]


def test_a_batch_of_nothing_beside_dynamic_edges():
    """Some files declare a batch of 0 where they mean any; the runtime takes no other number."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,H,W] x) => (float[N,2,H,W] y) {
        a = Conv(x, w) r = Relu(a) y = Conv(r, v) }"""
    model = onnx.parser.parse_model(text)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 0
    for tensor, shape in {"w": (8, 3, 1, 1), "v": (2, 8, 1, 1)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), tensor))
    smaller, result = optimize(model, keep=0.5, unverified=True)
    assert result.after.params < result.before.params
    assert smaller.graph.input == model.graph.input


X, EMPTY = TensorInfo("x", np.dtype(np.float32), ("N", 4)), TensorInfo("e", np.dtype(np.int64), (0, 3))
ROW, NUMBER = TensorInfo("r", np.dtype(np.float32), ("N", 0)), TensorInfo("n", np.dtype(np.float32), ())
INPUTS = [X, EMPTY, ROW, NUMBER]
SHAPES = {"x": (5, 4), "e": (0, 3), "r": (5, 0), "n": ()}


@pytest.mark.parametrize("make", [random_feeds, synthetic_feeds])
def test_what_is_made_up_has_the_declared_sizes(make):
    assert {name: a.shape for name, a in make(INPUTS, 5).items()} == SHAPES


def test_samples_are_counted_by_what_holds_any():
    found = Calibration(synthetic_feeds(INPUTS, 5), "made up", False)
    assert len(found) == 5 and {n: a.shape for n, a in found.take(2).feeds.items()} == {
        "x": (2, 4), "e": (0, 3), "r": (2, 0), "n": (),
    }  # fmt: skip
    assert len(load_calibration("synthetic", INPUTS, count=7)) == 7
    (run,) = batches(found.feeds, INPUTS)
    assert run[1:] == (5, 5) and run[0]["e"].shape == (0, 3)


def test_given_samples_may_be_empty_where_the_model_says_so():
    assert conform(np.zeros((0, 3), np.int64), EMPTY, "here").shape == (0, 3)
    assert conform(np.zeros((2, 0), np.float32), ROW, "here").shape == (2, 0)


DECODER = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,T,8] x, float[N,P,8] past) => (float[N,T,4] y, float[N,S,8] present) {
        k = MatMul(x, wk)  present = Concat<axis = 1>(past, k)  t = Transpose<perm = [0, 2, 1]>(present)
        q = MatMul(x, wq)  s = MatMul(q, t)  a = Softmax<axis = -1>(s)  o = MatMul(a, present)
        h = MatMul(o, w)  r = Relu(h)  y = MatMul(r, v) }"""


def first_token(source, x, past, folder):
    """Samples of a decoder before there is a past."""
    if source == "file":
        np.savez(folder / "c.npz", x=x, past=past)
        return folder / "c.npz"
    return {"x": x, "past": past} if source == "arrays" else [{"x": a, "past": b} for a, b in zip(x, past, strict=True)]


@pytest.mark.parametrize("source", ["file", "arrays", "items"])
def test_the_past_of_a_first_token_is_empty(source, tmp_path):
    model, rng = onnx.parser.parse_model(DECODER), np.random.default_rng(0)
    for tensor, shape in {"wk": (8, 8), "wq": (8, 8), "w": (8, 16), "v": (16, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), tensor))
    x, past = rng.standard_normal((80, 3, 8), np.float32), np.zeros((80, 0, 8), np.float32)
    calib = first_token(source, x, past, tmp_path)
    smaller, result = optimize(model, keep=0.6, effort="low", gate=False, calib=calib)
    close = result.fidelity
    assert (close.samples, close.fitted) == (16, 64)
    for length in (0, 5):
        feeds = {"x": x, "past": np.ones((80, length, 8), np.float32)}
        before, after = (Session(one).run(feeds)["y"] for one in (model, smaller))
        assert np.square(before - after).sum() < 0.1 * np.square(before).sum()


def test_samples_without_a_past_may_be_kept_in_files(tmp_path):
    feeds = {"x": np.ones((80, 3, 8), np.float32), "past": np.zeros((80, 0, 8), np.float32)}
    inputs = [
        TensorInfo("x", np.dtype(np.float32), ("N", "T", 8)),
        TensorInfo("past", np.dtype(np.float32), ("N", "P", 8)),
    ]
    scratch = ScratchSpace(str(tmp_path), 1e9)
    found = load_calibration(feeds, inputs, count=40, most=1.0, scratch=scratch)
    items = [{name: array[k] for name, array in feeds.items()} for k in range(80)]
    for one in (found, load_calibration(items, inputs, count=40, most=1.0, scratch=scratch)):
        assert {name: array.shape for name, array in one.feeds.items()} == {"x": (40, 3, 8), "past": (40, 0, 8)}


def test_no_samples_are_refused():
    past = TensorInfo("past", np.dtype(np.float32), ("N", "P", 8))
    with pytest.raises(InputError, match=r"'past' is empty \(shape \(0, 3, 8\)\): give at least one sample"):
        conform(np.zeros((0, 3, 8), np.float32), past, "here")


def test_values_that_are_not_finite():
    """The divisor that is made up may be zero: nothing can be solved on such samples, and that is said."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,8] x, int64[N,1] k) => (float[N,4] y) {
        a = MatMul(x, w) r = Tanh(a) f = Cast<to=1>(k) d = Div(r, f) y = MatMul(d, v) }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for tensor, shape in {"w": (8, 12), "v": (12, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), tensor))
    notes = optimize(model, keep=0.5, method="merge")[1].notes
    assert any("the range of input k is unknown" in note for note in notes)
    with pytest.raises(
        OnnxMergeError, match="d of the original is not finite on the samples; give --calib, or --method merge"
    ):
        optimize(model, keep=0.5)


MLP = filled(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x) => (float[N,4] y)'
    " { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }",
    {"w": (8, 12), "v": (12, 4)},
)


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        (3e30, 1, "the square of r of the original is not finite on the samples; give --method merge"),
        (np.inf, 2, "r of the original is not finite on the samples; input x of the samples holds infinity: clean"),
    ],
)
def test_samples_that_are_too_large(value, code, said):
    x = np.random.default_rng(0).random((64, 8), np.float32)
    x[5] = value
    with pytest.raises(OnnxMergeError, match=said) as refusal:
        optimize(MLP, keep=0.5, calib={"x": x})
    assert refusal.value.exit_code == code


@pytest.mark.parametrize("first", [0, 3])
def test_rows_of_an_output_whose_number_depends_on_the_data(first):
    """There may be none, as behind a threshold of a detector."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[6,8] x) => (float[K,5] z) {
        a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)
        s = ReduceMax<axes=[1], keepdims=0>(y) zero = Constant<value_float=0.5>() c = Greater(s, zero)
        z = Compress<axis=0>(y, c) }"""
    model = filled(text, {"w": (8, 12), "v": (12, 5)})
    x = np.random.default_rng(0).standard_normal((40, 6, 8)).astype(np.float32)
    x[first] = 0
    for method in ("prune", "reconstruct"):
        result = optimize(model, keep=0.4, method=method, calib={"x": x.reshape(240, 8)}, gate=False)[1]
        assert 0 < result.fidelity.cosine < 1 and "its size depends" in result.fidelity.why
