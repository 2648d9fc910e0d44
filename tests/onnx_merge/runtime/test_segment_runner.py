"""The engine that computes constants: on the CPU, bit by bit, in every type that onnxruntime computes with."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge import optimize
from onnx_merge.compression import job
from onnx_merge.errors import OnnxMergeError, UnverifiedError
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.segment_runner import FOLDING, SegmentRunner
from onnx_merge.runtime.session_settings import threads_limited
from passes.interface.engine import retaining, share_threads
from passes.interface.errors import RunError
from passes.transforms.canonicalize import canonicalize


def model_of(text, opset=17, **arrays):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.mark.parametrize("size", [4, 4096])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("bfloat16", ml_dtypes.bfloat16), ("float16", np.float16), ("float", np.float32), ("double", np.float64),
     ("uint16", np.uint16), ("int8", np.int8), ("bool", np.bool_)],
)  # fmt: skip
def test_layout_changes_keep_every_bit(kind, dtype, size):
    """Those of constants that are fed to the session, too; NaN and infinities of all signs among them."""
    bits = np.random.default_rng(0).integers(0, 256, (2, size // 2 * np.dtype(dtype).itemsize)).astype(np.uint8)
    array = (bits > 127) if dtype is np.bool_ else bits.view(dtype)
    text = f"net ({kind}[N,2] x) => ({kind}[M,2] y) {{ t = Transpose(w)  y = Concat<axis=0>(x, t) }}"
    result = canonicalize(model_of(text, w=array), FOLDING)
    assert [n.op_type for n in result.graph.node] == ["Concat"]
    (stored,) = result.graph.initializer
    found = numpy_helper.to_array(stored)
    assert found.dtype == dtype
    assert np.array_equal(np.ascontiguousarray(found).view(np.uint8), np.ascontiguousarray(array.T).view(np.uint8))


def test_arithmetic_in_bfloat16_stays_where_there_is_no_kernel():
    text = (
        "net (bfloat16[N,2] x) => (bfloat16[N,2] y) { t = Transpose(w)  a = Acos(t)  s = Identity(a)  y = Add(x, s) }"
    )
    result = canonicalize(model_of(text, opset=22, w=np.zeros((2, 1), ml_dtypes.bfloat16)), FOLDING)
    assert [n.op_type for n in result.graph.node] in (["Acos", "Identity", "Add"], ["Add"])


def test_failures_are_run_errors():
    with pytest.raises(RunError):
        FOLDING(model_of("net (float[2] x) => (float[2] y) { y = NoSuchOp(x) }"))
    loaded = FOLDING(model_of("net (float[2] x, int64[1] i) => (float[1] y) { y = Gather(x, i) }"))
    with pytest.raises(RunError):
        loaded({"x": np.ones(2, np.float32), "i": np.array([7])})


SEQUENCES = {
    "output": "net (float[N,6] x) => (seq(float[N,5]) y) { a = MatMul(x, w)  r = Relu(a)  z = MatMul(r, v)  "
    "y = SequenceConstruct(z, z) }",
    "inside": "net (float[N,6] x) => (float[N,5] y) { a = MatMul(x, w)  r = Relu(a)  z = MatMul(r, v)  "
    "s = SequenceConstruct(z, z)  y = SequenceAt(s, i) }",
}


@pytest.mark.parametrize("where", SEQUENCES)
def test_a_model_with_sequences(where):
    """No piece can give a sequence; outputs that are such cannot be compared."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((6, 12), np.float32), "v": rng.standard_normal((12, 5), np.float32)}
    model = model_of(SEQUENCES[where], **arrays, i=np.array(1))
    options = {"keep": 0.5, "calib_samples": 8, "allocation": "uniform"}
    if where == "output":
        with pytest.raises(UnverifiedError, match="none of them is a tensor of numbers; --unverified"):
            optimize(model, **options)
        options["unverified"] = True
    smaller, result = optimize(model, **options)
    assert {t.name: tuple(t.dims) for t in smaller.graph.initializer}["w"] == (6, 6)
    assert (result.fidelity is None) == (where == "output")


def test_what_cannot_be_solved_on_the_samples_is_no_merge(monkeypatch):
    """A failure to run is told, with what does without."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((6, 12), np.float32), "v": rng.standard_normal((12, 5), np.float32)}
    text = "net (float[N,6] x) => (float[N,5] y) { a = MatMul(x, w)  r = Relu(a)  y = MatMul(r, v) }"
    model = model_of(text, **arrays)
    monkeypatch.setattr(job, "engine_of", lambda provider: fails)
    options = {"keep": 0.5, "calib_samples": 8, "allocation": "uniform"}
    with pytest.raises(OnnxMergeError, match="no piece runs; give --calib, or --method merge") as caught:
        optimize(model, **options)
    assert caught.value.exit_code == 1
    with pytest.raises(OnnxMergeError, match="no piece runs; give --method merge"):
        optimize(model, **options, calib={"x": rng.standard_normal((8, 6), np.float32)})
    assert optimize(model, **options, method="merge")[1].fidelity is not None


def fails(model):
    raise RunError("no piece runs")


@pytest.mark.parametrize(
    ("limit", "most", "each"), [(8, 3, (2, 3)), (8, 20, (1, 8)), (1, 4, (None, 1)), (4, 1, (None, 1))]
)
def test_threads_are_divided_among_models_that_run_at_the_same_time(limit, most, each):
    with threads_limited(limit):
        runner, workers = share_threads(SegmentRunner(CPU), most)
    assert (runner.threads, workers) == each


def test_models_that_keep_their_memory_compute_the_same():
    """What they returned holds after later runs, and after the session; their share of the threads stays."""
    model = model_of("net (float[N,300] x) => (float[N,300] y) { a = Relu(x)  b = Mul(a, a)  y = Sub(b, x) }")
    feeds = [{"x": np.random.default_rng(seed).standard_normal((700, 300), np.float32)} for seed in range(4)]
    with threads_limited(4):
        share, _ = share_threads(SegmentRunner(CPU), 2)
    runner = retaining(share)
    assert runner.threads == 2 and runner.arena
    run, plain = runner(model), FOLDING(model)
    found = [run(feed)["y"] for feed in feeds]
    del run
    for feed, one in zip(feeds, found, strict=True):
        np.testing.assert_array_equal(one, plain(feed)["y"])
