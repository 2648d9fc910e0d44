"""Large models go through the tool with their weights in files, and come out as they do from memory."""

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from smallnet import names, network

from onnx_merge.cli.main import main
from onnx_merge.compression.optimize import optimize, run
from onnx_merge.config.options import Options
from onnx_merge.inspection.inspect import inspect_model
from onnx_merge.io.save import save_atomically
from onnx_merge.verification.verify import verify
from passes.graph.model import Graph
from passes.weights import stored_tensors
from passes.weights.stored_tensors import is_stored, storing_weights
from passes.weights.tuning import StoredWeightsTuning

SMALL = StoredWeightsTuning(model_bytes=64, tensor_bytes=64, resident_bytes=2**12)
MERGED = {"keep": 0.7, "method": "merge"}
SOLVED = {"keep": 0.7, "method": "reconstruct", "calib_samples": 16, "effort": "low"}  # stored weights: no more
SPREAD = {"target_macs": 0.6, "method": "merge"}


@pytest.fixture
def path(tmp_path):
    """A model whose weights are external data."""
    return save_atomically(network(), tmp_path / "in.onnx", external=True).path


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def network_with_a_dead_channel():
    model = network()
    for tensor in model.graph.initializer[:2]:
        array = numpy_helper.to_array(tensor).copy()
        array[3] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def test_a_lossless_result_is_checked(tmp_path):
    path = save_atomically(network_with_a_dead_channel(), tmp_path / "in.onnx", external=True).path
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e9, SMALL):
        found, result = optimize(path, lossless=True)
    assert weights(found)["w1"].shape == (31, 16)
    assert result.fidelity.exact


@pytest.mark.parametrize("options", [MERGED, SOLVED, SPREAD])
def test_the_result_is_that_of_the_same_model_in_memory(tmp_path, path, options, monkeypatch):
    # Made-up samples of large models stay as they are, and their places count alike: no gradient reads the weights.
    monkeypatch.setattr("passes.reconstruction.weight_variants.matched_samples", lambda *given: None)
    monkeypatch.setattr("passes.reconstruction.weight_variant.place_weights", lambda *given: {})
    exact, _ = optimize(path, **options)
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e9, SMALL):
        found, result = optimize(path, tmp_path / "out.onnx", **options)
    assert not any(is_stored(t) for t in found.graph.initializer)
    for name, value in weights(exact).items():
        np.testing.assert_allclose(weights(found)[name], value, rtol=1e-4, atol=1e-4)
    assert weights(onnx.load(tmp_path / "out.onnx")).keys() == weights(found).keys()
    for name, value in weights(onnx.load(tmp_path / "out.onnx")).items():
        np.testing.assert_array_equal(value, weights(found)[name])
    assert result.after.params == sum(v.size for v in weights(found).values())
    assert names(tmp_path / "scratch") == []


@pytest.mark.parametrize("options", [MERGED, SOLVED])
def test_no_stage_holds_the_weights_in_memory(tmp_path, path, monkeypatch, options):
    """Weights that passes read are mapped, and no protobuf message has them."""
    owned, held = set(), [0]
    read = Graph.array

    def noted(graph, name):
        array = read(graph, name)
        if array.flags.owndata and array.nbytes >= SMALL.tensor_bytes and name in graph.initializers:
            owned.add(name)
        held[0] = max(held[0], sum(len(t.raw_data) for t in graph.model.graph.initializer if t.dims[1:]))
        return array

    monkeypatch.setattr(Graph, "array", noted)
    monkeypatch.setattr(stored_tensors, "bring_into_memory", None)  # nobody asks for it
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e9, SMALL):
        outcome = run(path, tmp_path / "out.onnx", Options.make(options))
        assert all(is_stored(t) for t in outcome.model.graph.initializer if np.prod(t.dims) >= 32)
    assert owned == set()
    assert held == [0]


def test_a_model_in_one_file_too(tmp_path):
    onnx.save(network(), tmp_path / "in.onnx")
    exact, _ = optimize(tmp_path / "in.onnx", **MERGED)
    (tmp_path / "scratch").mkdir()
    with storing_weights(tmp_path / "scratch", 1e9, SMALL):
        found, _ = optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", **MERGED)
    for name, value in weights(exact).items():
        np.testing.assert_array_equal(weights(found)[name], value)


def test_small_models_are_not_stored(tmp_path, path):
    with storing_weights(tmp_path, 1e9):
        outcome = run(path, None, Options.make(MERGED))
    assert not any(is_stored(t) for t in outcome.model.graph.initializer)


def test_external_data_on_demand(tmp_path, capsys):
    onnx.save(network(), tmp_path / "in.onnx")
    arguments = [str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--keep", "0.7", "--method", "merge", "-q"]
    assert main([*arguments, "--save-as-external-data"]) == 0
    data = [name for name in names(tmp_path) if name.endswith(".data")]
    assert len(data) == 1 and data[0].startswith("out.onnx.")
    stored = onnx.load(tmp_path / "out.onnx")
    assert main([*arguments, "--force"]) == 0
    assert not [name for name in names(tmp_path) if name.endswith(".data")]  # it went with the model that needed it
    for name, value in weights(onnx.load(tmp_path / "out.onnx")).items():
        np.testing.assert_array_equal(value, weights(stored)[name])


def test_what_is_stated_of_a_large_model_is_confirmed_and_it_can_be_inspected(tmp_path, path):
    with storing_weights(tmp_path, 1e9, SMALL):
        run(path, tmp_path / "out.onnx", Options.make(MERGED))
        assert verify(tmp_path / "out.onnx", path).keeps
        stored = inspect_model(path).to_dict()
    plain = inspect_model(path).to_dict()
    assert verify(tmp_path / "out.onnx", path).keeps
    assert {**stored, "seconds": None} == {**plain, "seconds": None}


def test_the_result_is_converted_to_another_number_format(tmp_path, path):
    (tmp_path / "scratch").mkdir()
    plain, exact = optimize(path, **MERGED, then="fp16")
    with storing_weights(tmp_path / "scratch", 1e9, SMALL):
        found, result = optimize(path, **MERGED, then="fp16")
    assert weights(found)["w1"].dtype == np.float16
    for name, value in weights(plain).items():
        np.testing.assert_array_equal(weights(found)[name], value)
    sizes = [[row.bytes for row in each.formats] for each in (exact, result)]
    np.testing.assert_allclose(*sizes, rtol=0.3)  # names of temporary files count too


def test_python_never_allocates_as_much_as_the_weights(tmp_path):
    """Counted by tracemalloc, which sees NumPy's arrays and no mapped files."""
    width, layers = 512, 10
    rng = np.random.default_rng(0)
    nodes = [f"h{i + 1} = MatMul(h{i}, w{i}) r{i + 1} = Relu(h{i + 1})" for i in range(layers)]
    text = " ".join(nodes).replace("MatMul(h", "MatMul(r").replace("(r0", "(x")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N,{width}] x) => (float[N,{width}] r{layers}) {{ {text} }}"
    )
    for i in range(layers):
        weight = rng.standard_normal((width, width), np.float32) * np.float32((2 / width) ** 0.5)
        model.graph.initializer.append(numpy_helper.from_array(weight, f"w{i}"))
    save_atomically(model, tmp_path / "in.onnx", external=True)
    del model
    tuning = StoredWeightsTuning(model_bytes=2**20, tensor_bytes=2**14)
    options = Options.make({**MERGED, "calib_samples": 16, "check_n": 16, "allocation": "uniform"})
    with storing_weights(tmp_path, 1e9, SMALL):  # what is imported and compiled once does not count
        run(save_atomically(network(), tmp_path / "small.onnx", external=True).path, None, options)
    with storing_weights(tmp_path, 1e9, tuning):
        tracemalloc.start()
        try:
            run(tmp_path / "in.onnx", tmp_path / "out.onnx", options)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 0.4 * 4 * layers * width**2
