"""The engine of a GPU, on the CPU: sessions are reused, tensors stay where they are, results are those of the CPU's."""

import copy
import pickle

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge import optimize
from onnx_merge.compression import job
from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime.devices.device_runner import DeviceRunner
from onnx_merge.runtime.devices.device_tensor import DeviceTensor
from onnx_merge.runtime.devices.reusable_model import reusable
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.segment_runner import SegmentRunner
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.runtime import DEVICE
from passes.interface.engine import placed, reuses_sessions
from passes.interface.errors import RunError
from passes.weights.mapped_files import FilePlace
from passes.weights.stored_tensors import store_at

SAMPLES = 64


def runner():
    return DeviceRunner(CPU, device="cpu")


def model_of(text, seed=0, **shapes):
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    arrays = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def dense(x="x", w="w", width=300, seed=0):
    text = f"net (float[N,16] {x}) => (float[N,M] y) {{ h = MatMul({x}, {w})  y = Relu(h) }}"
    return model_of(text, seed, **{w: (16, width)})


def residual_network(depth, channels=16):
    """A chain of ``depth`` residual blocks, all alike."""
    lines, shapes = [], {"stem": (channels, 3, 3, 3), "head": (channels, 5)}
    lines.append("s = Conv<pads = [1,1,1,1]>(x, stem)  t0 = Relu(s)")
    for k in range(depth):
        shapes |= {f"a{k}": (channels, channels, 3, 3), f"b{k}": (channels, channels, 3, 3)}
        lines.append(
            f"u{k} = Conv<pads = [1,1,1,1]>(t{k}, a{k})  v{k} = Relu(u{k})  "
            f"w{k} = Conv<pads = [1,1,1,1]>(v{k}, b{k})  r{k} = Add(t{k}, w{k})  t{k + 1} = Relu(r{k})"
        )
    lines.append(f"p = GlobalAveragePool(t{depth})  f = Flatten(p)  y = MatMul(f, head)")
    model = model_of(f"net (float[N,3,8,8] x) => (float[N,5] y) {{ {' '.join(lines)} }}", **shapes)
    for tensor in model.graph.initializer:  # activations keep their size
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((array / np.sqrt(array[0].size) / 2).astype(np.float32), tensor.name))
    return model


def test_models_that_differ_in_names_and_weights_share_a_session():
    engine, x = runner(), np.ones((SAMPLES, 16), np.float32)
    for k, model in enumerate((dense(), dense("input", "kernel", seed=1), dense(width=290))):
        name = model.graph.input[0].name
        (expected,) = Session(model).run({name: x}).values()
        np.testing.assert_allclose(engine(model)({name: x, "other": x})["y"], expected, rtol=1e-5, atol=1e-5)
        assert (engine.traffic.sessions, engine.traffic.runs) == (1, k + 1)


@pytest.mark.parametrize(
    "other",
    [
        "net (float[N,16] x) => (float[N,M] y) { h = MatMul(x, w)  y = Sigmoid(h) }",
        "net (float[N,16] x) => (float[N,M] y) { h = MatMul(x, w)  y = Elu<alpha = 2.0>(h) }",
        "net (float[N,16] x) => (float[N,M] y) { h = MatMul(x, w)  y = Clip(h, low) }",
    ],
)
def test_models_that_compute_otherwise_do_not(other):
    first, second = reusable(dense()), reusable(model_of(other, w=(16, 300), low=()))
    assert first is not None and second is not None and first.content != second.content


def test_constants_that_decide_what_is_computed_stay():
    text = "net (float[N,16] x) => (float[N,M] y) { h = MatMul(x, w)  y = Clip(h, low) }"
    low, high = (reusable(model_of(text, seed, w=(16, 8), low=())) for seed in (0, 1))
    assert low is not None and high is not None and low.content != high.content
    assert [a.shape for a in low.weights.values()] == [(16, 8)]


def test_a_weight_that_is_read_otherwise_too_stays():
    text = "net (float[16,16] x) => (float[16,16] y, float[16,16] w) { h = MatMul(x, w)  y = Add(h, w) }"
    found = reusable(model_of(text, w=(16, 16)))
    assert found is not None and not found.weights and found.outputs == ("y", "w")


def test_nested_graphs_run_as_they_are():
    text = """net (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, else_branch = e () => (float[2] b) { b = Neg(x) }>
    }"""
    engine, x = runner(), np.array([-1, 2], np.float32)
    assert reusable(model_of(text)) is None
    assert engine(model_of(text))({"c": np.array(False), "x": x})["y"].tolist() == [1, -2]


def stays(engine, array):
    """``array`` as a tensor on the device."""
    return placed(engine, {"x": array})["x"]


def test_models_that_run_as_they_are_take_tensors_of_the_device():
    text = """net (bool c, float[N,300] x) => (float[N,300] y) {
      y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, else_branch = e () => (float[2] b) { b = Neg(x) }>
    }"""
    engine, x = runner(), np.random.default_rng(0).normal(size=(SAMPLES, 300)).astype(np.float32)
    assert np.array_equal(engine(model_of(text))({"c": np.array(False), "x": stays(engine, x)})["y"], -x)
    cast = "net (float[N,300] x) => (bfloat16[N,300] y) { y = Cast<to = 16>(x) }"
    assert engine(model_of(cast))({"x": stays(engine, x)})["y"].shape == x.shape


def test_sequences_of_maps_are_run_as_they_are():
    zipmap = onnx.helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    model = model_of("net (float[N,2] x) => (float[N,2] y) { y = Softmax(x) }")
    model.graph.node.append(zipmap)
    del model.graph.output[:]
    maps = onnx.helper.make_map_type_proto(onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(1, []))
    model.graph.output.append(onnx.helper.make_value_info("z", onnx.helper.make_sequence_type_proto(maps)))
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    found = runner()(model)({"x": np.zeros((3, 2), np.float32)})["z"]
    np.testing.assert_allclose(found, np.full((3, 2), 0.5))


def test_an_input_that_is_an_output_comes_back_as_it_was_given():
    text = "net (int64[N] i, float[N] x) => (int64[N] i, float[N] x, float[N] y) { y = Relu(x) }"
    feeds = {"i": np.arange(3), "x": np.ones(3, np.float32)}
    found = runner()(model_of(text))(feeds)
    assert found["i"] is feeds["i"] and found["x"] is feeds["x"] and found["y"].tolist() == [1, 1, 1]


def test_tensors_that_are_read_before_they_are_computed():
    """onnxruntime sorts the nodes."""
    model = model_of("net (float[N] x) => (float[N] y) { h = Relu(x)  y = Neg(h) }")
    first = onnx.NodeProto()
    first.CopyFrom(model.graph.node[0])
    del model.graph.node[0]
    model.graph.node.append(first)
    assert reusable(model) is None
    assert runner()(model)({"x": np.ones(2, np.float32)})["y"].tolist() == [-1, -1]
    with pytest.raises(RunError):
        runner()(model_of("net (float[N] x) => (float[N] y) { h = Relu(x) }"))


def test_stored_weights_that_stay_constants(tmp_path):
    """Those of an LSTM."""
    text = "net (float[L,N,8] x) => (float[L,1,N,16] y) { y, h, c = LSTM<hidden_size = 16>(x, w, r) }"
    model = model_of(text, w=(1, 64, 8), r=(1, 64, 16))
    x = {"x": np.random.default_rng(0).normal(size=(4, 2, 8)).astype(np.float32)}
    expected = SegmentRunner(CPU)(model)(x)["y"]
    path = tmp_path / "weights"
    path.write_bytes(b"".join(tensor.raw_data for tensor in model.graph.initializer))
    start = 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        store_at(tensor, FilePlace(str(path), start, size))
        start += size
    np.testing.assert_allclose(runner()(model)(x)["y"], expected, atol=1e-6)


def test_more_sizes_of_a_batch_than_sessions_are_kept_for():
    engine = runner()
    run = engine(dense())
    for rows in (1, 2, 3, 4, 5, 6) * 2:
        assert run({"x": np.ones((rows, 16), np.float32)})["y"].shape == (rows, 300)
    assert engine.traffic.sessions == DEVICE.batch_sizes


def test_tensors_that_are_iterated_over_are_copied_once():
    engine = runner()
    there = stays(engine, np.ones((50, 1000), np.float32))
    assert len(list(there)) == 50 and engine.traffic.to_host == there.nbytes


def test_what_arrays_refuse_is_refused():
    there = stays(runner(), np.ones((200, 100), np.float32))
    with pytest.raises(TypeError):
        there += there
    with pytest.raises(IndexError):
        there[:, :, :]
    with pytest.raises(IndexError):
        np.take(there, [300], 1)
    with pytest.raises(ValueError, match="truth value"):
        bool(there)


def test_tensors_stay_on_the_device_until_numpy_reads_them():
    engine, x = runner(), np.random.default_rng(0).normal(size=(SAMPLES, 16)).astype(np.float32)
    hidden = engine(dense())({"x": x})["y"]
    assert isinstance(hidden, DeviceTensor) and engine.traffic.to_host == 0
    assert (hidden.shape, hidden.ndim, len(hidden), hidden.nbytes) == ((SAMPLES, 300), 2, SAMPLES, 4 * SAMPLES * 300)
    second = model_of("net (float[N,300] h) => (float[N,M] z) { z = MatMul(h, v) }", v=(300, 290))
    found = engine(second)({"h": hidden})["z"]
    assert engine.traffic.to_host == 0
    weights = [numpy_helper.to_array(m.graph.initializer[0]) for m in (dense(), second)]
    expected = np.maximum(x @ weights[0], 0)
    np.testing.assert_allclose(hidden - expected, 0 * expected, atol=1e-4)
    np.testing.assert_allclose(np.square(hidden).sum(), np.square(expected).sum(), rtol=1e-4)
    np.testing.assert_allclose(np.concatenate([hidden, hidden])[SAMPLES:], hidden[:], rtol=1e-6)
    np.testing.assert_allclose(found, expected @ weights[1], rtol=1e-3, atol=1e-3)
    assert engine.traffic.to_host > 0


def test_what_numpy_computes_of_tensors_on_the_device_stays_there():
    rng, engine = np.random.default_rng(0), runner()
    a, b = (rng.normal(size=(200, 64, 4, 4)).astype(np.float32) for _ in range(2))
    da, db, kept = stays(engine, a), stays(engine, b), np.arange(3, 40)
    found = {
        "add": (da + db, a + b),
        "subtract": (da - db, a - b),
        "take": (np.take(da, kept, 1), np.take(a, kept, 1)),
        "rows": (da[20:150], a[20:150]),
        "block": (da[:, 3:50], a[:, 3:50]),
        "join": (np.concatenate([da, db]), np.concatenate([a, b])),
    }
    assert da[:] is da and da[0:500] is da and da.astype(np.float32) is da
    assert engine.traffic.to_host == 0
    for name, (tensor, expected) in found.items():
        assert tensor.shape == expected.shape and np.array_equal(tensor, expected), name
    assert da[5:2].shape == (0, 64, 4, 4)


def test_all_else_is_computed_on_the_host():
    rng, engine = np.random.default_rng(0), runner()
    a = rng.normal(size=(200, 64, 4)).astype(np.float32)
    da = stays(engine, a)
    for tensor, expected in (
        (2 * da, 2 * a),
        (da + a, a + a),
        (da - 1, a - 1),
        (a[:1] - da, a[:1] - a),
        (da[:, None], a[:, None]),
        (da[::2], a[::2]),
        (da[3], a[3]),
        (np.take(da, [1], axis=1), np.take(a, [1], axis=1)),
        (np.concatenate([da, a]), np.concatenate([a, a])),
        (np.concatenate([da, da], axis=1), np.concatenate([a, a], axis=1)),
        (np.moveaxis(da, 0, 1), np.moveaxis(a, 0, 1)),
        (da.reshape(-1, 4), a.reshape(-1, 4)),
        (da.astype(np.float64), a.astype(np.float64)),
        (np.asarray(da, np.float64), a.astype(np.float64)),
        (np.add.reduce(da), np.add.reduce(a)),
        (da.mean(), a.mean()),
    ):
        assert isinstance(tensor, np.ndarray | np.generic) and tensor.dtype == expected.dtype
        assert np.array_equal(tensor, expected)


def test_another_process_gets_an_array():
    there = stays(runner(), np.arange(10.0, dtype=np.float32))
    found = pickle.loads(pickle.dumps(there))
    assert isinstance(found, np.ndarray) and np.array_equal(found, there)


def test_small_results_come_back_at_once():
    found = runner()(dense())({"x": np.ones((2, 16), np.float32)})["y"]
    assert isinstance(found, np.ndarray)


def test_inputs_that_are_placed_are_not_copied_again():
    engine = runner()
    feed = {"x": np.ones((2000, 16), np.float32), "n": np.array([3])}
    there = placed(engine, feed)
    assert isinstance(there["x"], DeviceTensor) and there["n"] is feed["n"]
    assert placed(SegmentRunner(CPU), feed) == feed
    assert reuses_sessions(engine) and not reuses_sessions(SegmentRunner(CPU))
    assert engine(dense())(there)["y"].shape == (2000, 300)


def test_a_device_that_is_full_drops_its_sessions_and_tries_again(monkeypatch):
    engine, x = runner(), {"x": np.ones((SAMPLES, 16), np.float32)}
    run, failures = engine(dense()), ["Failed to allocate memory for requested buffer"]
    real = Session.run_on_device

    def full(self, feeds, device):
        if failures:
            raise OnnxMergeError(failures.pop())
        return real(self, feeds, device)

    monkeypatch.setattr(Session, "run_on_device", full)
    assert run(x)["y"].shape == (SAMPLES, 300) and engine.traffic.sessions == 2
    failures += ["out of memory", "out of memory"]
    with pytest.raises(RunError, match="out of memory"):
        run(x)
    failures[:] = ["shapes do not match"]
    with pytest.raises(RunError, match="shapes do not match"):
        run(x)


def test_the_least_recently_used_sessions_are_dropped(monkeypatch):
    engine = runner()
    for axes in range(DEVICE.most_sessions + 3):
        engine(model_of(f"net (float[N] x) => (float[N] y) {{ y = Elu<alpha = {axes}.0>(x) }}"))
    assert len(engine._sessions) == DEVICE.most_sessions


def test_it_can_be_copied_and_sent_to_another_process():
    engine = runner()
    engine(dense())
    for other in (pickle.loads(pickle.dumps(engine)), copy.copy(engine)):
        assert other(dense())({"x": np.ones((2, 16), np.float32)})["y"].shape == (2, 300)


def test_failures_are_run_errors():
    with pytest.raises(RunError):
        runner()(model_of("net (float[2] x) => (float[2] y) { y = NoSuchOp(x) }"))
    with pytest.raises(RunError):
        runner()(dense())({"x": np.ones((2, 17), np.float32)})


def compressed(monkeypatch, model, engine, **options):
    monkeypatch.setattr(job, "engine_of", lambda provider: engine)
    return optimize(model, keep=0.5, provider="cpu", gate=False, **options)[1]


@pytest.mark.parametrize("options", [{}, {"method": "merge", "calib": None}, {"effort": "medium"}])
def test_a_run_ends_as_on_the_cpu(monkeypatch, options):
    model = residual_network(2)
    x = {"x": np.random.default_rng(0).normal(size=(128, 3, 8, 8)).astype(np.float32)}
    here, there = (
        compressed(monkeypatch, model, engine, **{"calib": x, **options}) for engine in (SegmentRunner(CPU), runner())
    )
    assert [(g.name, g.kept) for g in here.groups] == [(g.name, g.kept) for g in there.groups]
    a, b = (Session(one.model).run(x)["y"] for one in (here, there))
    assert np.abs(a - b).max() <= 0.02 * np.abs(a).std()


def test_the_number_of_sessions_does_not_grow_with_the_number_of_groups(monkeypatch):
    counts = []
    for depth in (2, 5):
        engine = runner()
        x = {"x": np.random.default_rng(0).normal(size=(48, 3, 8, 8)).astype(np.float32)}
        compressed(monkeypatch, residual_network(depth), engine, calib=x)
        counts.append(engine.traffic.sessions)
        assert engine.traffic.runs > 50
    assert counts[1] <= counts[0] + 2
