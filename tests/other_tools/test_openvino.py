"""OpenVINO loads what is written, and computes the same. Skipped where openvino is not installed."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_merge import optimize
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

openvino = pytest.importorskip("openvino")
MODELS = Path(__file__).parents[2] / "models"
IMAGES = {"input": np.load(MODELS / "digits_test.npz")["input"][:64]}


def in_openvino(path, feeds):
    """The first output. Computed in float32: by default OpenVINO takes what is fastest on the processor."""
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(feeds)[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits_cnn", {"keep": 0.6, "method": "merge"}),
        ("digits_cnn", {"keep": 0.6, "method": "prune", "align": 1, "allocation": "uniform"}),
        ("digits_mlp", {"keep": 0.5, "calib": MODELS / "digits_calib.npz"}),
    ],
)
def test_it_agrees(tmp_path, name, options):
    path = tmp_path / "out.onnx"
    optimize(MODELS / f"{name}.onnx", path, gate=False, **options)
    expected = Session(onnx.load(path), CPU).run(IMAGES)["logits"]
    np.testing.assert_allclose(in_openvino(path, IMAGES), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_int8_agrees(tmp_path):
    """Both round to the same grid, in kernels of their own."""
    path = tmp_path / "out.onnx"
    optimize(MODELS / "digits_cnn.onnx", path, keep=0.7, calib=MODELS / "digits_calib.npz", then="int8", gate=False)
    expected = Session(onnx.load(path), CPU).run(IMAGES)["logits"]
    assert (in_openvino(path, IMAGES).argmax(1) == expected.argmax(1)).mean() > 0.95
