"""Large models are read without their weights, refused with the same lines, and written like any other."""

import hashlib

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge.errors import InputError
from onnx_merge.io import save
from onnx_merge.io.load import load_model
from onnx_merge.io.save import save_atomically, sha256_of_model
from onnx_merge.io.wire_format import without_large_weights, write_model
from onnx_merge.tuning.inputs import MODEL_FILES
from passes.weights.stored_tensors import array_of, in_memory, is_stored, place_of, storing_weights
from passes.weights.tuning import StoredWeightsTuning

SMALL = StoredWeightsTuning(model_bytes=64, tensor_bytes=64)
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4] x) => (float[N,3] y)
{
  h = MatMul(x, w)
  r = Relu(h)
  z = MatMul(r, v)
  y = Add(z, b)
}
"""


@pytest.fixture
def block(tmp_path):
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e6, SMALL):
        yield


def model():
    rng = np.random.default_rng(0)
    found = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (4, 8)), ("v", (8, 3)), ("b", (3,))):
        found.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    found.graph.initializer[0].doc_string = "of the first layer"
    return found


def written(tmp_path, content, name="m.onnx"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def external(tmp_path, name="m.onnx", offset=0):
    found, data = model(), b"\x01" * offset
    for tensor in found.graph.initializer[:2]:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "w.bin"), ("offset", len(data)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    (tmp_path / "w.bin").write_bytes(data)
    return written(tmp_path, found, name)


@pytest.mark.parametrize("make", [lambda folder: written(folder, model()), external])
def test_a_file_that_was_replaced_is_read_anew(tmp_path, make):
    """By the next run in the same process."""
    (tmp_path / "scratch").mkdir()
    path = make(tmp_path)
    weights = path if make is not external else tmp_path / "w.bin"
    for sign in (1, -1):
        with storing_weights(tmp_path / "scratch", 1e6, SMALL):
            found = [array_of(tensor).copy() for tensor in load_model(path).model.graph.initializer[:2]]
        wanted = [numpy_helper.to_array(tensor) for tensor in model().graph.initializer[:2]]
        assert all(np.array_equal(a, sign * b) for a, b in zip(found, wanted, strict=True))
        data = weights.read_bytes()
        for array in wanted:
            data = data.replace(array.tobytes(), (-array).tobytes())
        (tmp_path / "new").write_bytes(data)
        (tmp_path / "new").replace(weights)


@pytest.mark.parametrize("make", [lambda folder: written(folder, model()), external, lambda f: external(f, offset=3)])
def test_weights_stay_in_files(tmp_path, block, make):
    path = make(tmp_path)
    loaded = load_model(path)
    w, v, b = loaded.model.graph.initializer
    assert (is_stored(w), is_stored(v), is_stored(b)) == (True, True, False)
    assert w.doc_string == "of the first layer"
    for tensor, exact in zip((w, v, b), model().graph.initializer, strict=True):
        np.testing.assert_array_equal(array_of(tensor), numpy_helper.to_array(exact))
    assert not array_of(w).flags.owndata
    assert array_of(w).flags.aligned
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.size == path.stat().st_size + sum(file.stat().st_size for file in loaded.external_files)


def test_aligned_external_data_are_read_where_they_are(tmp_path, block):
    w, v, _ = load_model(external(tmp_path)).model.graph.initializer
    assert {place_of(w).path, place_of(v).path} == {str((tmp_path / "w.bin").resolve())}


def test_unaligned_weights_are_copied_to_a_temporary_file(tmp_path, block):
    w, *_ = load_model(external(tmp_path, offset=3)).model.graph.initializer
    assert place_of(w).path.startswith(str((tmp_path / "scratch").resolve()))
    assert place_of(w).offset == 0


def test_the_models_are_those_read_otherwise(tmp_path):
    path = external(tmp_path)
    whole = load_model(path)
    with storing_weights(tmp_path, 1e6, SMALL):
        stored = load_model(path)
        found = in_memory(stored.model)
    for one, other in zip(found.graph.initializer, whole.model.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
        one.CopyFrom(other)  # data_location may be written though it is the default
    assert found == whole.model
    assert (stored.sha256, stored.size, stored.external_files) == (whole.sha256, whole.size, whole.external_files)


def lines(path):
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def damaged(how, folder):
    """A damaged model."""
    found = model()
    if how == "cut":
        return written(folder, found.SerializeToString()[:-40])
    elif how == "no model":
        return written(folder, bytes(range(256)) * 9)
    elif how == "missing":
        path = external(folder)
        (folder / "w.bin").unlink()
        return path
    elif how == "short":
        path = external(folder)
        (folder / "w.bin").write_bytes(bytes(60))
        return path
    elif how in ("outside", "absolute"):
        path = external(folder)
        found = onnx.load(path, load_external_data=False)
        (folder / "sub").mkdir(exist_ok=True)
        place = "../w.bin" if how == "outside" else str(folder / "w.bin")
        found.graph.initializer[0].external_data[0].value = place
        return written(folder / "sub", found)
    elif how == "both":
        found.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        found.graph.initializer[0].external_data.add(key="location", value=str(folder / "w.bin"))
        (folder / "w.bin").write_bytes(bytes(128))
    elif how == "unread":
        found.graph.node[0].input[1] = "nowhere"
    elif how == "checker":
        found.graph.node[0].op_type = "NoSuchOp"
    return written(folder, found)


@pytest.mark.parametrize(
    "how", ["cut", "no model", "missing", "short", "outside", "absolute", "both", "unread", "checker"]
)
def test_the_same_files_are_refused_with_the_same_lines(tmp_path, how):
    path = damaged(how, tmp_path)
    otherwise = lines(path)
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e6, SMALL):
        assert lines(path) == otherwise


@pytest.mark.parametrize("rows", [3, 5])
def test_weights_that_do_not_fit_their_shape_are_refused(tmp_path, block, rows):
    found = model()
    found.graph.initializer[0].dims[0] = rows
    path = written(tmp_path, found)
    assert lines(path) == (
        f"{path} is not a valid model: tensor 'w' has 128 bytes, and its shape [{rows}, 8] asks for {rows * 32}"
    )


def test_the_bytes_without_weights_are_a_model_and_the_places_have_them():
    exact = model()
    data = exact.SerializeToString()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx_merge.io.wire_format.can_be_stored", lambda tensor: list(tensor.dims) == [4, 8])
        bare, left_out = without_large_weights(memoryview(data))
    assert list(left_out) == [0]
    start, length = left_out[0]
    found = onnx.ModelProto.FromString(bare)
    assert not found.graph.initializer[0].raw_data
    found.graph.initializer[0].raw_data = data[start : start + length]
    assert found == exact


@pytest.mark.parametrize("size", range(1, 60, 7))
def test_bytes_that_are_cut_short_raise(size):
    with pytest.raises((ValueError, IndexError)):
        without_large_weights(memoryview(model().SerializeToString()[:-size]))


def test_a_stored_model_is_written_as_one_file_part_by_part(tmp_path, block):
    stored = load_model(external(tmp_path)).model
    parts = []
    write_model(stored, lambda part: parts.append(bytes(part)))
    assert onnx.ModelProto.FromString(b"".join(parts)) == model()
    saved = save_atomically(stored, tmp_path / "out.onnx")
    assert onnx.load(saved.path) == model()
    assert saved.sha256 == hashlib.sha256(saved.path.read_bytes()).hexdigest() == sha256_of_model(stored)
    assert saved.size == saved.path.stat().st_size
    assert is_stored(stored.graph.initializer[0])


@pytest.mark.parametrize("stored", [False, True])
def test_external_data_can_be_asked_for(tmp_path, stored):
    big = model()
    big.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 300), np.float32), "w"))
    path = written(tmp_path, big)
    with storing_weights(tmp_path if stored else None, 1e6, SMALL):
        saved = save_atomically(load_model(path).model, tmp_path / "out.onnx", external=True)
        (data,) = tmp_path.glob("out.onnx.*.data")
        assert data.stat().st_size == 4800
        assert saved.path.stat().st_size < 2000
        assert saved.size == saved.path.stat().st_size + 4800
    assert onnx.load(saved.path).graph.initializer[1:] == big.graph.initializer[1:]
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(saved.path).graph.initializer[0]), np.ones((4, 300)))


def test_a_result_over_the_limit_of_protobuf_has_external_data(tmp_path, block, monkeypatch):
    big = model()
    big.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 300), np.float32), "w"))
    stored = load_model(written(tmp_path, big)).model
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    saved = save_atomically(stored, tmp_path / "out.onnx")
    assert [path.stat().st_size for path in tmp_path.glob("out.onnx.*.data")] == [4800]
    for one, other in zip(onnx.load(saved.path).graph.initializer, big.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
