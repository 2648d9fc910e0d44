"""The engine that computes constants: on the CPU, bit by bit, in every type that onnxruntime computes with."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge import optimize
from onnx_merge.pieces import FOLDING
from passes.graph.errors import RunError
from passes.normalise import normalise


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
    result = normalise(model_of(text, w=array), FOLDING)
    assert [n.op_type for n in result.graph.node] == ["Concat"]
    (stored,) = result.graph.initializer
    found = numpy_helper.to_array(stored)
    assert found.dtype == dtype
    assert np.array_equal(np.ascontiguousarray(found).view(np.uint8), np.ascontiguousarray(array.T).view(np.uint8))


def test_arithmetic_in_bfloat16_stays_where_there_is_no_kernel():
    text = (
        "net (bfloat16[N,2] x) => (bfloat16[N,2] y) { t = Transpose(w)  a = Acos(t)  s = Identity(a)  y = Add(x, s) }"
    )
    result = normalise(model_of(text, opset=22, w=np.zeros((2, 1), ml_dtypes.bfloat16)), FOLDING)
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
def test_a_model_with_sequences_is_merged_by_weights_where_it_has_to_be(where):
    """No piece can give a sequence."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((6, 12), np.float32), "v": rng.standard_normal((12, 5), np.float32)}
    model = model_of(SEQUENCES[where], **arrays, i=np.array(1))
    smaller, result = optimize(model, keep=0.5, calib_samples=8, allocation="uniform")
    assert {t.name: tuple(t.dims) for t in smaller.graph.initializer}["w"] == (6, 6)
    assert where == "inside" or "merged by weights, since the model could not be run in pieces: y is no tensor" in [
        *result.notes
    ]
