"""onnxslim and onnxsim before and after: each order gives a model that computes what it should. Skipped where they are
not installed."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_merge import optimize
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

MODELS = Path(__file__).parents[2] / "models"
IMAGES = {"input": np.load(MODELS / "digits_test.npz")["input"][:64]}
OPTIONS = {"keep": 0.7, "calib": MODELS / "digits_calib.npz"}


def onnxslim(model):
    return pytest.importorskip("onnxslim").slim(model)


def onnxsim(model):
    return pytest.importorskip("onnxsim").simplify(model)[0]


@pytest.fixture(params=[onnxslim, onnxsim], ids=lambda tool: tool.__name__)
def simplified(request):
    return request.param


def logits(model):
    return Session(model, CPU).run(IMAGES)["logits"]


def test_before(simplified):
    """A simplified model is compressed as well as the original is."""
    model = onnx.load(MODELS / "digits_cnn.onnx")
    _, result = optimize(simplified(model), **OPTIONS)
    assert result.fidelity.verdict == "good" and result.after.macs < 0.6 * result.before.macs


def test_after(simplified):
    """Simplification changes nothing, and does not need to remove much."""
    model, _ = optimize(MODELS / "digits_cnn.onnx", **OPTIONS)
    expected = logits(model)
    slim = simplified(model)
    np.testing.assert_allclose(logits(slim), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert len(slim.graph.node) <= len(model.graph.node)
