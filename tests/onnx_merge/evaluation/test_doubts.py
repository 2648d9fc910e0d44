"""Warnings about what the samples leave unknown."""

import io
import json

import numpy as np
import onnx
import onnx.parser
import pytest
from optimiser_breaks import network_the_optimiser_breaks
from smallnet import network

from onnx_merge import optimize, sweep
from onnx_merge.cli.main import main
from onnx_merge.evaluation.doubts import MADE_UP
from onnx_merge.evaluation.layer_activity import complaint, layers
from onnx_merge.report.table import render
from onnx_merge.runtime.providers import CPU
from onnx_merge.tuning.evaluation import LAYER_ACTIVITY

LIMITS = ", zero, six"
FAST = {"keep": 0.5, "method": "merge", "gate": False}


def made(body, **arrays):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {body}')
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    return model


def trained(image=1.0, folded=True, act="Relu"):
    """Three convolutions whose BatchNormalization recorded what images of deviation ``image`` and as large a mean give;
    ``folded``: as biases."""
    rng = np.random.default_rng(0)
    x = image * (1 + rng.standard_normal((16, 3, 12, 12)))
    nodes, arrays, name = [], {"zero": 0.0, "six": 6.0}, "x"
    for k, (o, i) in enumerate(((8, 3), (12, 8), (16, 12))):
        w = rng.standard_normal((o, i, 3, 3)) / np.sqrt(9 * i)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        answers = np.einsum("nihwyx,oiyx->nohw", windows, w)
        mean, deviation = answers.mean((0, 2, 3)), answers.std((0, 2, 3))
        x = (answers - mean[:, None, None]) / deviation[:, None, None]
        if folded:
            arrays |= {f"w{k}": w / deviation[:, None, None, None], f"b{k}": -mean / deviation}
            nodes.append(f"n{k} = Conv({name}, w{k}, b{k})")
        else:
            arrays |= {f"w{k}": w, f"m{k}": mean, f"v{k}": deviation**2, f"o{k}": np.ones(o), f"z{k}": np.zeros(o)}
            nodes.append(
                f"c{k} = Conv({name}, w{k}) n{k} = BatchNormalization<epsilon=0.0>(c{k}, o{k}, z{k}, m{k}, v{k})"
            )
        if act == "Silu":
            x = x / (1 + np.exp(-x))
            nodes.append(f"s{k} = Sigmoid(n{k}) r{k} = Mul(n{k}, s{k})")
        else:
            x = np.maximum(x, 0)
            nodes.append(f"r{k} = {act}(n{k}{LIMITS if act == 'Clip' else ''})")
        name = f"r{k}"
    nodes.append("p = GlobalAveragePool(r2) f = Flatten(p) y = MatMul(f, head)")
    arrays["head"] = rng.standard_normal((16, 4))
    return made(f"net (float[N,3,12,12] x) => (float[N,4] y) {{ {' '.join(nodes)} }}", **arrays)


def images(scale=1.0):
    return {"x": (scale * (1 + np.random.default_rng(7).standard_normal((16, 3, 12, 12)))).astype(np.float32)}


def off(model, feeds):
    return complaint(layers(model, feeds, CPU, 100))


KINDS = {
    "folded": {},
    "BatchNormalization": {"folded": False},
    "SiLU": {"act": "Silu"},
    "ReLU6": {"act": "Clip"},
    "SiLU, BatchNormalization": {"act": "Silu", "folded": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_as_in_training_on_its_data(kind):
    model = trained(**KINDS[kind])
    assert len(layers(model, images(), CPU, 100)) >= 3 and off(model, images()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_off_on_data_of_another_scale(kind):
    """Pixels in 0..1 where the network was trained on 0..255: the units stay where their biases put them."""
    model = trained(255.0, **KINDS[kind])
    assert off(model, images(255.0)) is None
    said = off(model, images(1.0))
    assert said is not None and "of 3 layers that were looked at" in said


def test_far_too_large_data_show_in_what_was_recorded():
    said = off(trained(folded=False), images(255.0))
    assert "in 3 of 3 layers" in said and "times off what it recorded in training" in said


def test_a_single_dead_layer_is_no_cause_for_worry():
    """Weight decay leaves such in trained networks."""
    model = trained()
    for tensor in model.graph.initializer:
        if tensor.name == "b2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(16, -1e3, np.float32), "b2"))
    assert sum(layer.is_off for layer in layers(model, images(), CPU, 100)) == 1 and off(model, images()) is None


@pytest.mark.parametrize(("shift", "is_off"), [(0.0, False), (40.0, True), (-40.0, True)])
@pytest.mark.parametrize("gate", ["Sigmoid", "Tanh", "HardSigmoid"])
def test_saturated_gates(gate, shift, is_off):
    rng = np.random.default_rng(0)
    text = f"""net (float[N,4] x) => (float[N,3] y) {{
        a = MatMul(x, w) c = Add(a, b) g = {gate}(c) s = Mul(a, g) z = MatMul(s, v) y = Sigmoid(z) }}"""
    w, v = 0.3 * rng.standard_normal((4, 8)), 100 * rng.standard_normal((8, 3))
    model = made(text, w=w, b=np.full(8, shift), v=v)
    feeds = {"x": rng.standard_normal((64, 4)).astype(np.float32)}
    (layer,) = layers(model, feeds, CPU, 100)  # what is an answer may be near its ends
    assert layer.op == gate and (off(model, feeds) is not None) == is_off
    assert not layers(model, {"x": feeds["x"][: LAYER_ACTIVITY.fewest_places - 1]}, CPU, 100)  # seen too seldom


def test_layers_of_a_model_that_optimisations_of_onnxruntime_break():
    given = {"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
    assert [layer.op for layer in layers(network_the_optimiser_breaks(), given, CPU, 100)] == ["Relu", "Relu"]


def test_outputs_that_do_not_move():
    text = """net (float[N,4] x) => (float[N,3] y, float[N,3] z) {
        a = MatMul(x, w) b = Relu(a) z = MatMul(b, v) y = Add(z, c) }"""
    rng = np.random.default_rng(0)
    model = made(text, w=rng.standard_normal((4, 8)), v=rng.standard_normal((8, 3)), c=np.full(3, 1e5))
    said = render(optimize(model, **FAST)[1], io.StringIO(), True)
    assert "samples   they do not test the output y: it varies by " in said and "test the output z" not in said


def test_made_up_samples_are_called_so_in_a_line_of_the_table(here, capsys):
    assert main(["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge", "--report", "r.json"]) == 0
    out = capsys.readouterr().out
    assert f"\nsamples   {MADE_UP}\n" in out and f"note: {MADE_UP}" not in out
    assert json.loads((here / "r.json").read_text())["doubts"] == [MADE_UP]


@pytest.mark.parametrize("way", ["calib", "labels"])
def test_samples_of_the_users_are_not(way, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", x=rng.standard_normal((64, 16), np.float32), y=np.zeros(64, np.int64))
    assert optimize(network(), **FAST, **{way: tmp_path / "s.npz"})[1].doubts == ()
    assert optimize(network(), **FAST, calib="synthetic")[1].doubts == (MADE_UP,)


def test_wrongly_scaled_samples_are_said():
    model = trained(255.0)
    (said,) = optimize(model, **FAST, calib=images(1.0))[1].doubts
    assert said.endswith(": are they scaled as in training? see --input-range, --mean and --std")
    assert optimize(model, **FAST, calib=images(255.0))[1].doubts == ()
    assert optimize(model, **FAST)[1].doubts == (MADE_UP,)  # the range is found
    result = optimize(model, **FAST, input_range=(0, 1))[1]
    assert result.doubts[0] == MADE_UP and result.doubts[-1].endswith(": give --calib")
    assert all(f"samples   {line}"[:60] in render(result, io.StringIO(), True) for line in result.doubts)


def test_a_sweep_says_so_too(tmp_path):
    assert f"samples: {MADE_UP}" in sweep(network(), tmp_path / "sizes", steps=2, method="merge").notes
