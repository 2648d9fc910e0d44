"""Every file that is not a sound model is refused, in one line."""

import hashlib
import os
import random

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.compression.optimize import optimize
from onnx_merge.errors import InputError
from onnx_merge.io import load
from onnx_merge.io.contents import tensor_bytes
from onnx_merge.io.load import all_tensors, load_model

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4] x) => (float[N,2] y)
<float[4,2] w = {1,2,3,4,5,6,7,8}, float[2] b = {0.5,-0.5}>
{
  [first] h = MatMul(x, w)
  [second] y = Add(h, b)
}
"""


def model(text=TEXT):
    return onnx.parser.parse_model(text)


def refused(path):
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert caught.value.exit_code == 2
    return message


def written(tmp_path, content, name="m.onnx"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def with_external(tmp_path, **entries):
    """A model whose weight w lies in w.bin, its entry changed by ``entries`` (None removes)."""
    m = model()
    tensor = m.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return written(tmp_path, m)


def test_a_model_comes_with_its_hash_and_size(tmp_path):
    path = written(tmp_path, model())
    loaded = load_model(str(path))
    assert loaded.model == model()
    assert loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.size == path.stat().st_size
    assert loaded.external_files == ()


def test_missing_folder_and_empty(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere.onnx")
    assert "is a folder" in refused(tmp_path)
    assert "is empty" in refused(written(tmp_path, b""))
    assert "cannot be read" in refused(written(tmp_path, model()) / "below_a_file.onnx")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = written(tmp_path, model())

    def deny(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", deny)
    assert "Permission denied" in refused(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission(tmp_path):
    path = written(tmp_path, model())
    path.chmod(0)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"hello world, this is text\n", "text"),
        (b'<ir_version: 8, opset_import: ["" : 17]> g (float x) => (float x) {}', "onnx.parser"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        (b"PK\x03\x04" + bytes(40), "ZIP"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        (b"\x00", ""),
        (b"\x08", ""),
        (b"\x08\x07", ""),  # parses: a model with an IR version and nothing else
        (b"\x08\x07\x3a\x00", "no nodes and no opset"),
    ],
)
def test_what_is_not_onnx(tmp_path, content, hint):
    message = refused(written(tmp_path, content))
    assert "is not an ONNX model" in message
    assert hint in message


def test_random_bytes(tmp_path):
    generator = random.Random(0)
    for length in [1, 2, 3, 5, 8, 13] * 30:
        refused(written(tmp_path, generator.randbytes(length)))


def test_every_truncation_is_noticed(tmp_path):
    content = model().SerializeToString()
    for end in range(3, len(content)):
        message = refused(written(tmp_path, content[:end]))
        assert "damaged or cut short" in message or "not an ONNX model" in message or "not a valid model" in message
    assert "damaged or cut short" in refused(written(tmp_path, content[: len(content) // 2]))


def test_the_checker_is_quoted_with_its_node(tmp_path):
    m = model()
    m.graph.node[1].attribute.append(onnx.helper.make_attribute("alpha", 1.0))
    message = refused(written(tmp_path, m))
    assert "not a valid model: Unrecognized attribute: alpha for operator Add (node second, Add)" in message
    m = model()
    m.graph.node[1].input[0] = "nothing"
    message = refused(written(tmp_path, m))
    assert "'nothing'" in message and "second" in message
    m = model()
    m.graph.node[0].input.append("x")
    m.graph.node[0].name = ""
    assert "MatMul" in refused(written(tmp_path, m))


def test_versions_newer_than_the_installed_onnx(tmp_path):
    m = model()
    m.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    assert "upgrade onnx" in refused(written(tmp_path, m))
    m = model()
    m.ir_version = onnx.IR_VERSION + 1
    assert "IR version" in refused(written(tmp_path, m))
    m = model()
    m.opset_import.add(domain="ai.onnx.ml", version=999)
    assert "ai.onnx.ml opset 999" in refused(written(tmp_path, m))
    m = model()
    m.opset_import.add(domain="my.own", version=999)
    assert load_model(written(tmp_path, m)).model == m


def test_too_large_for_a_protobuf(tmp_path, monkeypatch):
    path = written(tmp_path, model())
    monkeypatch.setattr(load, "PROTOBUF_LIMIT", 10)
    assert "external data" in refused(path)


def test_external_data_is_brought_into_memory(tmp_path):
    path = with_external(tmp_path)
    loaded = load_model(path)
    weight = onnx.numpy_helper.to_array(loaded.model.graph.initializer[0])
    np.testing.assert_array_equal(weight, np.arange(8, dtype=np.float32).reshape(4, 2))
    assert loaded.external_files == (tmp_path / "w.bin",)
    assert loaded.size == path.stat().st_size + 32


def test_external_data_is_brought_in_also_where_it_exceeds_the_limit(tmp_path, monkeypatch):
    path = with_external(tmp_path)
    monkeypatch.setattr(load, "PROTOBUF_LIMIT", path.stat().st_size + 10)
    weight = onnx.numpy_helper.to_array(load_model(path).model.graph.initializer[0])
    np.testing.assert_array_equal(weight, np.arange(8, dtype=np.float32).reshape(4, 2))


def test_external_data_relative_to_the_working_directory(tmp_path, monkeypatch):
    with_external(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_model("m.onnx").external_files == (tmp_path / "w.bin",)


@pytest.mark.parametrize(
    ("entries", "hint"),
    [
        ({"location": "gone.bin"}, "is missing: put gone.bin beside the model"),
        ({"location": "../w.bin"}, "points outside the model's folder"),
        ({"location": "/etc/passwd"}, "points outside the model's folder"),
        ({"location": "C:\\w.bin"}, "points outside the model's folder"),
        ({"location": None}, "names no file"),
        ({"offset": 4}, "cut short"),
        ({"offset": -4}, "cut short"),
        ({"length": 8}, "cut short"),
        ({"length": 64}, "cut short"),
        ({"offset": "many"}, "cannot be read"),
    ],
)
def test_external_data_that_is_refused(tmp_path, entries, hint):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(32))
    message = refused(with_external(folder, **entries))
    assert hint in message
    assert "'w'" in message


def test_external_data_behind_a_link_out_of_the_folder(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    path = with_external(folder)
    (folder / "w.bin").rename(tmp_path / "elsewhere.bin")
    (folder / "w.bin").symlink_to(tmp_path / "elsewhere.bin")
    assert "points outside the model's folder" in refused(path)


def test_all_tensors_reaches_subgraphs_attributes_and_functions():
    m = model("""
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (bool c, float[2] x) => (float[2] y) <float[2] w = {1,2}>
        {
          k = Constant <value = float[2] {3,4}> ()
          z = If (c) <
            then_branch = g1 () => (float[2] t) { inner = Constant <value = float[2] {5,6}> () t = Add(x, inner) },
            else_branch = g2 () => (float[2] e) { e = Add(x, k) }>
          v = own.twice(z)
          y = Add(v, w)
        }
        <domain: "own", opset_import: ["" : 17]>
        twice (a) => (b) { two = Constant <value = float[1] {2}> () b = Mul(a, two) }
    """)
    values = sorted(float(onnx.numpy_helper.to_array(t)[0]) for t in all_tensors(m))
    assert values == [1, 2, 3, 5]


@pytest.mark.parametrize(("kind", "size"), [("FLOAT", 12), ("FLOAT16", 6), ("INT4", 2), ("UINT4", 2), ("INT64", 24)])
def test_tensor_bytes(kind, size):
    assert tensor_bytes(onnx.TensorProto(data_type=onnx.TensorProto.DataType.Value(kind), dims=[3, 1])) == size


FUNCTIONS = """<ir_version: 9, opset_import: ["" : 21, "pkg" : 1]>
net (float[N,6] x) => (float[N,6] y) {{ a = pkg.Block(x)  y = Neg(a) }}
<domain: "pkg", opset_import: ["" : {}]> Block (x) => (y) {{ {} }}"""


@pytest.mark.parametrize(
    ("opset", "nodes"), [(13, "y = Relu(x)"), (11, "y = Softmax(x)"), (17, "h = Identity(x)  y = Relu(h)")]
)
def test_functions_of_another_opset_are_no_fault(tmp_path, opset, nodes):
    model = onnx.parser.parse_model(FUNCTIONS.format(opset, nodes))
    onnx.save(model, tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx").model == model
    optimize(model, keep=1.0, method="merge")


def test_faults_beside_such_functions_are_found(tmp_path):
    onnx.save(onnx.parser.parse_model(FUNCTIONS.format(13, "h = Relu(x)  y = Relu<alpha=1.0>(h)")), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="alpha"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("external", [False, True])
def test_group_normalization_with_parameters_by_group(tmp_path, opset, external):
    """The checker takes it for deprecated, and runtimes run it. The second group is constant at zero."""
    text = f"""<ir_version: 9, opset_import: ["" : {opset}]> net (float[N,3,6,6] x) => (float[N,4,6,6] y)
        <float[4] s = {{1,0,2,3}}, float[4] b = {{1,0,0,-1}}> {{
        a = Conv(x, w)  g = GroupNormalization<num_groups = 4>(a, s, b)  r = Relu(g)  y = Conv(r, v) }}"""
    made, rng = model(text), np.random.default_rng(0)
    for name, size in (("w", (16, 3, 1, 1)), ("v", (4, 16, 1, 1))):
        weights = rng.standard_normal(size, np.float32)
        weights[4:8] *= name == "v"
        made.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    path = tmp_path / "m.onnx"
    onnx.save(made, path, save_as_external_data=external, size_threshold=0, location="m.bin")
    smaller, result = optimize(path, keep=0.75, method="prune", calib="none")
    assert [g.kept for g in result.groups if g.status == "shrunk"] == [3]
    (norm,) = (n for n in smaller.graph.node if n.op_type == "GroupNormalization")
    assert [a.i for a in norm.attribute if a.name == "num_groups"] == [3]
    assert result.fidelity.nsr < 1e-10


def test_other_faults_beside_it_are_found(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]> net (float[N,4] x, float[2] s) => (float[N,4] y) {
        g = GroupNormalization<num_groups = 2>(x, s, s)  y = Relu<alpha = 1.0>(g) }"""
    onnx.save(model(text), tmp_path / "m.onnx")
    assert "alpha" in refused(tmp_path / "m.onnx")


@pytest.mark.parametrize("places", [("node",), ("opset_import",), ("node", "opset_import")])
def test_the_standard_domain_has_two_names(places):
    """The checker knows the empty one, runtimes both."""
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }'
    model = onnx.parser.parse_model(text)
    for place in places:
        parts = model.graph.node if place == "node" else model.opset_import
        for part in parts:
            part.domain = "ai.onnx"
    load.check_valid(model.SerializeToString())
    assert all(n.domain == ("ai.onnx" if "node" in places else "") for n in model.graph.node)
