"""Inputs with a default value stay overridable through a whole run."""

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_merge import inspect_model, optimize
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.runtime.session import Session
from passes.interface.reason import text
from passes.shapes.overridable_inputs import overridable


def network():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,6] x, float[1] gain, float[1,16] style) => (float[N,3] y) {
            a = Gemm<transB=1>(x, w)  s = Mul(a, gain)  r = Relu(s)  m = Mul(r, style)
            b = Gemm<transB=1>(m, v)  br = Relu(b)  y = Gemm<transB=1>(br, o)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in {"w": (16, 6), "v": (16, 16), "o": (3, 16), "gain": (1,), "style": (1, 16)}.items():
        array = np.ones(shape, np.float32) if name in ("gain", "style") else rng.standard_normal(shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def test_they_stay_overridable():
    smaller, result = optimize(network(), keep=0.5, allocation="uniform", calib_samples=8)
    assert [v.name for v in smaller.graph.input] == ["x", "gain", "style"]
    assert overridable(smaller) == {"gain", "style"}
    sizes = {t.name: tuple(t.dims) for t in smaller.graph.initializer}
    assert sizes["o"] == (3, 8) and sizes["style"] == (1, 16)
    assert result.after.params < result.before.params
    session, x = Session(smaller), np.ones((2, 6), np.float32)
    given = session.run({"x": x, "gain": np.float32([3]), "style": np.arange(16, dtype=np.float32)[None]})["y"]
    assert np.abs(given - session.run({"x": x})["y"]).max() > 0


def test_what_it_is_called():
    groups = inspect_model(network()).groups
    assert "style may be overridden by callers" in {text(g.reason) for g in groups}


def test_shapes_are_observed_beside_defaults():
    model = network()
    found = RunObserver()(model, {"x": (4, 6), "gain": (1,), "style": (1, 16)}, ["br"])
    assert found == {"br": (4, 16)}


def test_one_that_is_fixed_is_an_input_no_more():
    smaller, _ = optimize(network(), keep=0.5, method="merge", fix_input={"style": [2.0] * 16})
    assert [v.name for v in smaller.graph.input] == ["x", "gain"] and overridable(smaller) == {"gain"}


def test_weights_of_an_old_model_are_inputs_and_new_ones_are_named():
    """A bias that takes the place of a norm."""
    model = onnx.parser.parse_model("""
        <ir_version: 3, opset_import: ["" : 9]> net (float[N,3,5,5] x) => (float[N,4,5,5] y) {
            a = Conv(x, w)  n = BatchNormalization(a, s, s, s, s)  r = Relu(n)  y = Conv(r, v)
        }""")
    rng = np.random.default_rng(0)
    for name, shape in {"w": (16, 3, 1, 1), "v": (4, 16, 1, 1), "s": (16,)}.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.uniform(0.5, 1, shape).astype(np.float32), name))
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, shape))
    smaller, result = optimize(model, keep=0.5, method="merge")
    new = {v.name for v in smaller.graph.input} - {v.name for v in model.graph.input}
    assert new == {"a.bias", "y.bias"}
    assert "new graph inputs, since IR version 3 lists weights there: a.bias, y.bias" in result.notes


def test_shapes_need_not_be_declared(tmp_path):
    """Of an input with a default, and of an output."""
    model = network()
    for value in (model.graph.input[2], model.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    path = tmp_path / "in.onnx"
    onnx.save(model, path)
    smaller, result = optimize(path, tmp_path / "out.onnx", keep=0.5, calib_samples=8)
    assert list(smaller.graph.input) == list(model.graph.input)
    assert list(smaller.graph.output) == list(model.graph.output)
    assert result.after.params < result.before.params


def test_a_bias_may_be_overridden():
    """What a layer adds is not known then, and the layer is not solved for."""
    model = network()
    model.graph.node[-1].input.append("c")
    model.graph.input.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [3]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2, 3]), "c"))
    smaller, result = optimize(model, keep=0.5, calib_samples=8)
    assert "c" in overridable(smaller) and result.after.params < result.before.params
    session, x = Session(smaller), np.ones((2, 6), np.float32)
    moved = session.run({"x": x, "c": np.zeros(3, np.float32)})["y"]
    np.testing.assert_allclose(session.run({"x": x})["y"] - moved, np.tile([1, 2, 3], (2, 1)), rtol=1e-4)
