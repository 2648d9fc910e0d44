"""Sessions read weights where they are stored, and give what they give for the same weights in memory."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge.io import save
from onnx_merge.runtime import session as session_module
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.stored_weights import stored_weights
from onnx_merge.tuning.inputs import MODEL_FILES
from passes.weights.mapped_files import FilePlace
from passes.weights.stored_tensors import (
    MAPPED,
    array_of,
    in_memory,
    start_storing,
    store_at,
    stored_array,
    storing_weights,
    tensor_of,
)
from passes.weights.tuning import StoredWeightsTuning

SMALL = StoredWeightsTuning(model_bytes=64, tensor_bytes=64)
GEMM = "y = Gemm<transB = 1>(x, w)"
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


@pytest.fixture(autouse=True)
def block(tmp_path):
    with storing_weights(tmp_path, 1e6, SMALL):
        start_storing(64)
        yield


def stored(nodes, weight=None, kind="float"):
    """A model of ``nodes`` that reads a stored weight w (8, 16)."""
    model = onnx.parser.parse_model(f"{HEAD} net ({kind}[N,16] x) => ({kind}[N,O] y) {{ {nodes} }}")
    values = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32) if weight is None else weight
    model.graph.initializer.append(tensor_of(stored_array(values), "w"))
    return model


def x(kind=np.float32):
    return np.random.default_rng(1).standard_normal((5, 16)).astype(kind)


FORMS = {
    "read as it is": GEMM,
    "folded": "t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)",
    "fused": "t = Transpose<perm = [1, 0]>(w) h = MatMul(x, t) r = Relu(h) y = Add(r, r)",
    "unread": "y = Relu(x)",
}


@pytest.mark.parametrize("nodes", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("optimisation", ["none", "basic", "all"])
def test_the_outputs_are_those_of_the_same_weights_in_memory(nodes, optimisation):
    model = stored(nodes)
    session = Session(model, optimisation=optimisation)
    expected = Session(in_memory(model), optimisation=optimisation).run({"x": x()})["y"]
    for _ in range(2):
        np.testing.assert_allclose(session.run({"x": x()})["y"], expected, rtol=1e-5, atol=1e-6)
        MAPPED.drop_pages()


def test_a_session_gets_the_mapped_pages_and_no_copy():
    model = stored(GEMM, np.ones((64, 64), np.float32)[:8, :16].repeat(64, 0))
    found = stored_weights(model)
    assert len(found.content) < 400 < found.size
    assert found.values["w"].data_ptr() == array_of(model.graph.initializer[0]).__array_interface__["data"][0]


def test_half_precision(tmp_path):
    weight = np.eye(8, 16, dtype=np.float16)
    model = stored("t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)", weight, "float16")
    np.testing.assert_array_equal(Session(model).run({"x": x(np.float16)})["y"], x(np.float16)[:, :8])


def test_types_that_are_no_arrays_of_onnxruntime_are_mapped_by_it():
    weight = np.eye(8, 16).astype(ml_dtypes.bfloat16)
    model = stored("t = Cast<to = 1>(w) u = Transpose<perm = [1, 0]>(t) y = MatMul(x, u)", weight)
    assert stored_weights(model).values == {}
    np.testing.assert_array_equal(Session(model).run({"x": x()})["y"], x()[:, :8])


def test_weights_of_several_folders(tmp_path):
    model = stored("h = Gemm<transB = 1>(x, w) y = MatMul(h, v)")
    (tmp_path / "other").mkdir()
    weight = np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)
    (tmp_path / "other" / "v.bin").write_bytes(weight.tobytes())
    tensor = onnx.TensorProto(name="v", dims=(8, 8), data_type=onnx.TensorProto.FLOAT)
    store_at(tensor, FilePlace(str((tmp_path / "other" / "v.bin").resolve()), 0, 256))
    model.graph.initializer.append(tensor)
    expected = Session(in_memory(model)).run({"x": x()})["y"]
    np.testing.assert_allclose(Session(model).run({"x": x()})["y"], expected, rtol=1e-5)


def test_the_given_model_is_not_changed():
    model = stored(GEMM)
    before = model.SerializeToString(deterministic=True)
    Session(model)
    assert model.SerializeToString(deterministic=True) == before


def test_segments_take_stored_weights():
    model = stored(GEMM)
    weight = numpy_helper.to_array(in_memory(model).graph.initializer[0])
    np.testing.assert_allclose(FOLDING(model)({"x": x()})["y"], x() @ weight.T, rtol=1e-5, atol=1e-6)


def test_where_the_rest_is_too_large_for_protobuf_all_weights_go_through_a_file(monkeypatch):
    """Where temporary files have no room, the rest is in memory."""
    model = stored("h = Gemm<transB = 1>(x, w) y = MatMul(h, v)")
    weight = np.random.default_rng(2).standard_normal((8, 200)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "v"))
    expected = Session(in_memory(model)).run({"x": x()})["y"]
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom + 6000)
    monkeypatch.setattr(session_module, "stored_weights", None)
    np.testing.assert_allclose(Session(model).run({"x": x()})["y"], expected, rtol=1e-5)
