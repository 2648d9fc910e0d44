"""Outputs that are sequences of maps, as scikit-learn's classifiers give their probabilities: compared like tensors."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.compression.optimize import optimize
from onnx_merge.equivalence.structure import check_structure
from onnx_merge.errors import FidelityError
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo

KEYS = {
    "string": 'classlabels_strings = ["eel", "cat", "dog"]',
    "int64": "classlabels_int64s = [7, 1, 3]",
}


def classifier(key="int64", seed=0, width=32):
    """An MLP on six features; the labels of its three classes are not in order."""
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    net (float[N,6] X) => ({key}[N] label, seq(map({key}, float)) probabilities) {{
        a = MatMul(X, w1)  ab = Add(a, b1)  ar = Relu(ab)  c = MatMul(ar, w2)  cb = Add(c, b2)  s = Softmax(cb)
        best = ArgMax<axis = 1>(s)  found = ai.onnx.ml.ArrayFeatureExtractor(names, best)  label = Reshape(found, flat)
        probabilities = ai.onnx.ml.ZipMap<{KEYS[key]}>(s) }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    sizes = {"w1": (6, width), "b1": (1, width), "w2": (width, 3), "b2": (1, 3)}
    arrays = {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}
    names = np.array(["eel", "cat", "dog"], object) if key == "string" else np.array([7, 1, 3])
    for name, array in {**arrays, "names": names, "flat": np.array([-1])}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("key", KEYS)
def test_a_session_gives_a_row_for_each_map(key):
    """In the order of the labels."""
    model = classifier(key)
    session = Session(model)
    assert session.outputs[1] == TensorInfo("probabilities", np.dtype(np.float32), (None, None))
    x = np.random.default_rng(1).standard_normal((4, 6), np.float32)
    rows = session.run({"X": x})["probabilities"]
    model.graph.output.append(onnx.ValueInfoProto(name="s"))
    plain = Session(model).run({"X": x}, ["s"])["s"]
    assert rows.shape == (4, 3) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows, plain[:, [1, 2, 0]])


def test_no_map_at_all_is_no_row():
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    net (float[N,3] s) => (seq(map(int64, float)) p) {{ p = ai.onnx.ml.ZipMap<{KEYS["int64"]}>(s) }}"""
    session = Session(onnx.parser.parse_model(text))
    assert session.run({"s": np.zeros((0, 3), np.float32)})["p"].shape == (0, 0)
    assert session.run({"s": np.float32([[1, 2, 3]])})["p"].tolist() == [[2, 3, 1]]


@pytest.mark.parametrize("key", KEYS)
def test_probabilities_in_maps_are_compared(key):
    model = classifier(key)
    smaller, result = optimize(model, keep=0.75)
    assert [(g.name, g.kept) for g in result.groups] == [("a", 24), ("c", 3)]
    assert result.fidelity.samples == 64 and 0.8 < result.fidelity.cosine < 1
    assert 0.5 < result.fidelity.top1_agreement <= 1
    assert result.notes == ("the layers were not refined together: probabilities (ZipMap) has no gradient rule",)
    assert check_structure(model, smaller) == []
    assert smaller.graph.output == model.graph.output
    with pytest.raises(FidelityError, match="top class stays the same"):
        optimize(model, keep=0.05, min_top1=1)


def test_labels_give_the_accuracy_of_maps(tmp_path):
    x = np.random.default_rng(2).standard_normal((50, 6), np.float32)
    best = Session(classifier()).run({"X": x})["probabilities"].argmax(1)
    np.savez(tmp_path / "samples.npz", X=x, labels=best)
    result = optimize(classifier(), keep=0.75, labels=tmp_path / "samples.npz")[1]
    assert result.accuracy.before == 100 and 50 < result.accuracy.after <= 100


def test_layers_are_solved_beside_an_output_that_is_a_sequence_of_tensors():
    """No sequence of tensors is compared; the other outputs are."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] x) => (float[N,4] y, seq(float[N,4]) s) {
        a = MatMul(x, w1)  r = Relu(a)  y = MatMul(r, w2)  s = SequenceConstruct(y, y) }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, size in {"w1": (6, 12), "w2": (12, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    made, result = optimize(model, keep=0.5, calib_samples=32, check_n=4)
    assert [g.kept for g in result.groups if g.kept < g.size] == [6] and made.graph.output[1] == model.graph.output[1]
    assert Session(made).run({"x": np.ones((3, 6), np.float32)})["y"].shape == (3, 4)
