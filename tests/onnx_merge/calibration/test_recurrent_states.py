"""Recurrent states, (2, batch, units): a sample takes two rows of them, and the batch is no first axis."""

import itertools

import numpy as np
import onnx.parser
import onnxruntime
import pytest
from onnx.numpy_helper import from_array

from onnx_merge import optimize
from onnx_merge.calibration.more_samples import _with_mirror_images
from onnx_merge.errors import InputError
from onnx_merge.inputs.user_arrays import load_samples
from onnx_merge.runtime.tensor_info import TensorInfo

UNITS, LENGTH = 6, 10
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[{batch},4,{length}] x, float[2,{batch},6] state) => (float[{batch},5] y, float[2,{batch},6] next)
    <int64 first = {{0}}, int64 second = {{1}}, int64[1] axis = {{0}}> {{
        a = Conv<pads=[1,1]>(x, a_w) b = Relu(a) c = Conv<pads=[1,1]>(b, c_w) d = Relu(c)
        t = Transpose<perm=[2,0,1]>(d)
        h = Gather(state, first) s = Gather(state, second) h_1 = Unsqueeze(h, axis) s_1 = Unsqueeze(s, axis)
        all, h_n, s_n = LSTM<hidden_size=6>(t, w, r, l_b, , h_1, s_1)
        next = Concat<axis=0>(h_n, s_n) last = Squeeze(h_n, axis) y = Gemm<transB=1>(last, y_w)
    }}"""


def net(batch, length=LENGTH, text=MODEL):
    model, rng = onnx.parser.parse_model(text.format(batch=batch, length=length)), np.random.default_rng(0)
    shapes = {"a_w": (16, 4, 3), "c_w": (12, 16, 3), "w": (1, 4 * UNITS, 12), "r": (1, 4 * UNITS, UNITS)}
    for name, shape in {**shapes, "l_b": (1, 8 * UNITS), "y_w": (5, UNITS)}.items():
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(from_array(values.astype(np.float32), name))
    return model


def samples(count=100):
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, 4, LENGTH), np.float32), rng.standard_normal((count, 2, 1, UNITS), np.float32)


@pytest.mark.parametrize(("batch", "length"), [("1", LENGTH), ("4", LENGTH), ("N", LENGTH), ("N", "L"), ("?", LENGTH)])
def test_layers_are_solved_on_made_up_states(batch, length):
    model = net(batch, length)
    made, result = optimize(model, keep=0.5, gate=False)
    shrunk = [group for group in result.groups if group.status == "shrunk"]
    assert shrunk and {group.method for group in shrunk} == {"reconstruct"}
    assert result.fidelity.samples > 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    size = int(batch) if batch.isdigit() else 3
    feeds = {"x": np.ones((size, 4, LENGTH), np.float32), "state": np.zeros((2, size, UNITS), np.float32)}
    assert [output.shape for output in session.run(None, feeds)] == [(size, 5), (2, size, UNITS)]


@pytest.mark.parametrize("batch", ["1", "N", "?"])
def test_states_of_the_user_in_all_forms(batch, tmp_path):
    x, states = samples()
    forms = {
        "one for each sample": states,
        "one after the other": states.reshape(-1, 1, UNITS),
        "as they are fed": np.ascontiguousarray(states[:, :, 0].transpose(1, 0, 2)),
    }
    results = [optimize(net(batch), keep=0.5, gate=False, calib={"x": x, "state": s}) for s in forms.values()]
    for k in range(len(x)):
        np.savez(tmp_path / f"{k:03}.npz", x=x[k : k + 1], state=states[k])
    for calib in (zip(x[:, None], states, strict=True), tmp_path):
        results.append(optimize(net(batch), keep=0.5, gate=False, calib=calib))
    for (one, result), (other, again) in itertools.pairwise(results):
        assert [t.raw_data for t in one.graph.initializer] == [t.raw_data for t in other.graph.initializer]
        assert result.fidelity.relative_l2 == again.fidelity.relative_l2
        assert result.fidelity.held_out == 16 and not result.fidelity.in_sample


def test_states_of_another_number_of_samples():
    x, states = samples()
    with pytest.raises(InputError, match=r"different numbers of samples.*give state as \(samples, 2, N, 6\)"):
        optimize(net("N"), keep=0.5, calib={"x": x, "state": states[:99]})


def test_labels_beside_states(tmp_path):
    x, states = samples(400)
    model = net("N")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = session.run(["y"], {"x": x, "state": states[:, :, 0].transpose(1, 0, 2)})[0]
    np.savez(tmp_path / "test.npz", x=x, state=states, labels=scores.argmax(1))
    _, result = optimize(model, keep=0.9, gate=False, labels=tmp_path / "test.npz")
    assert result.accuracy.before == 100.0 and result.accuracy.after > 80


def test_one_layer_beside_a_batch():
    """(1, N, units): a sample takes one row, but the batch is another axis all the same."""
    body = MODEL.replace("float[2,{batch},6]", "float[1,{batch},6]").replace("second = {{1}}", "second = {{0}}")
    body = body.replace("Concat<axis=0>(h_n, s_n)", "Identity(h_n)")
    _, result = optimize(net("N", text=body), keep=0.5, gate=False)
    assert {group.method for group in result.groups if group.status == "shrunk"} == {"reconstruct"}


def test_states_of_mirror_images_stay_whole():
    images, states = np.zeros((3, 3, 8, 8), np.float32), np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    both = _with_mirror_images({"x": images, "state": states}, {"x": 3})
    assert both["state"].ravel().tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]


def test_latency_of_batches_of_states():
    x, states = samples()
    _, result = optimize(net("N"), keep=0.5, gate=False, calib={"x": x, "state": states}, benchmark=[1, 8])
    assert [timing.batch for timing in result.latency] == [1, 8]


def test_time_as_the_first_axis_is_no_batch():
    """Each run takes whole sequences as one sample, instead of sequences of one step."""
    body = MODEL.replace("float[{batch},4,{length}] x", "float[T,{batch},4] x")
    body = body.replace("a = Conv<pads=[1,1]>(x, a_w)", "z = Transpose<perm=[1,2,0]>(x) a = Conv<pads=[1,1]>(z, a_w)")
    _, result = optimize(net("N", text=body), keep=0.5, gate=False)
    assert result.fidelity.samples == 64
    assert "x (samples, T, N, 4), state (samples, 2, N, " in " ".join(result.notes)


def test_a_file_with_an_axis_too_many_is_refused(tmp_path):
    np.savez(tmp_path / "deep.npz", x=np.zeros((30, 4, 3, 8, 8), np.float32))
    with pytest.raises(InputError, match=r"must have shape \(N, 3, 8, 8\)"):
        load_samples(tmp_path / "deep.npz", [TensorInfo("x", np.dtype(np.float32), (4, 3, 8, 8))])
