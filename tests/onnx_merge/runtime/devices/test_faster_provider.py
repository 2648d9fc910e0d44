"""The provider is the one on which a run takes less time, as a batch on both shows."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_merge import optimize
from onnx_merge.calibration.prepared_samples import prepared_samples
from onnx_merge.compression import optimize as optimize_module
from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError
from onnx_merge.original import opened_model
from onnx_merge.original.opened_model import open_model
from onnx_merge.runtime import cuda_driver
from onnx_merge.runtime.devices import device_runner, faster_provider
from onnx_merge.runtime.devices.device_runner import room_on_device
from onnx_merge.runtime.devices.faster_provider import estimate
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.tuning.runtime import DEVICE

GPU = ProviderChoice("cuda", "Some GPU")
DENSE = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
)
PAIR = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,3] y) {'
    " h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }"
)
PAIR.graph.initializer.extend(
    numpy_helper.from_array(np.random.default_rng(0).normal(size=shape).astype(np.float32), name)
    for name, shape in (("w", (4, 16)), ("v", (16, 3)))
)
FEEDS = {"x": np.ones((32, 4), np.float32)}


def chosen(monkeypatch, times):
    """The choice where a batch takes the (load, run) seconds of ``times`` by provider."""

    def measured(model, feeds, provider, optimisation):
        if isinstance(times[provider.name], Exception):
            raise times[provider.name]
        return times[provider.name]

    monkeypatch.setattr(faster_provider, "_times", measured)
    return faster_provider.faster_provider(DENSE, FEEDS, 32, GPU)


def test_a_large_model_runs_on_the_gpu(monkeypatch):
    found, note = chosen(monkeypatch, {"cuda": (1.0, 0.01), "cpu": (0.1, 0.2)})
    assert found is GPU
    assert note == (
        "runs on CUDA (Some GPU): 32 samples took 0.01 s there and 0.2 s on the CPU, loading the model 1 s there and "
        "0.1 s on the CPU"
    )


def test_a_small_model_runs_on_the_cpu(monkeypatch):
    found, note = chosen(monkeypatch, {"cuda": (0.2, 0.001), "cpu": (0.01, 0.002)})
    assert found == ProviderChoice("cpu", "faster than CUDA (Some GPU)")
    assert note.startswith("runs on the CPU, not on CUDA (Some GPU): 32 samples took 0.001 s there")


def test_a_model_that_fails_on_the_gpu_runs_on_the_cpu(monkeypatch):
    found, note = chosen(monkeypatch, {"cuda": OnnxMergeError("no kernel"), "cpu": (0.1, 0.1)})
    assert found is CPU and note == "runs on the CPU: CUDA (Some GPU) cannot run the model: no kernel"


def test_a_run_loads_the_model_six_times_and_runs_it_on_6400_samples():
    assert estimate(2.0, 0.5, 32) == 6 * 2.0 + 6400 / 32 * 0.5
    assert estimate(0.0, 0.1, 1) == pytest.approx(640)


def test_times_are_those_of_a_model():
    load, run = faster_provider._times(DENSE, FEEDS, CPU, "all")
    assert load >= 0 < run


def test_a_run_says_which_it_took(monkeypatch):
    asked = []

    def faster(model, feeds, size, candidate, optimisation):
        asked.append((len(feeds["x"]), size, candidate))
        return CPU, "runs on the CPU, not on CUDA"

    monkeypatch.setattr(optimize_module, "available_provider", lambda requested: GPU if requested == "auto" else CPU)
    monkeypatch.setattr(opened_model, "faster_provider", faster)
    _, auto = optimize(PAIR, keep=0.5, method="merge", gate=False)
    assert (
        auto.provider == "cpu"
        and "runs on the CPU, not on CUDA" in auto.notes
        and asked == [(DEVICE.timed_samples, DEVICE.timed_samples, GPU)]
    )
    _, asked_for = optimize(PAIR, keep=0.5, method="merge", gate=False, provider="cpu")
    assert asked_for.provider == "cpu" and not any("CUDA" in note for note in asked_for.notes) and len(asked) == 1


def test_activations_may_take_a_share_of_the_memory_of_the_gpu(monkeypatch):
    monkeypatch.setattr(device_runner, "available_memory", lambda: 10**11)
    assert room_on_device(CPU) == 0
    assert room_on_device(GPU) == int(DEVICE.memory_share * 10**11)
    assert room_on_device(GPU, 4) == int(DEVICE.memory_share * 10**11 / 4)


def test_a_model_that_only_the_gpu_runs_is_loaded_there(monkeypatch):
    """Here the candidate is the CPU by another name, and the CPU fails."""
    real, tried = opened_model.loaded, []

    def fails_on_cpu(model, provider, *rest, **more):
        tried.append(provider.name)
        if provider.name == "cpu":
            raise OnnxMergeError("no kernel for Conv of doubles")
        return real(model, CPU, *rest, **more)

    monkeypatch.setattr(opened_model, "loaded", fails_on_cpu)
    original = open_model(PAIR, Options.make({"keep": 0.5, "method": "merge"}), GPU)
    prepared_samples(original, GPU)
    assert tried == ["cpu", "cuda"] and original.provider is GPU
    assert "runs on CUDA (Some GPU): onnxruntime cannot load it for the CPU" in original.notes


def test_a_batch_that_cannot_be_timed_leaves_the_run_on_the_cpu(monkeypatch):
    def fails(*_):
        raise OnnxMergeError("no memory")

    monkeypatch.setattr(opened_model, "faster_provider", fails)
    original = open_model(PAIR, Options.make({"keep": 0.5, "method": "merge"}), GPU)
    prepared_samples(original, GPU)
    assert original.provider is CPU and original.session is not None
    assert "runs on the CPU: a batch could not be timed on both providers: no memory" in original.notes


def test_the_driver_is_asked_in_silence(capfd):
    assert isinstance(cuda_driver.first_device(), str) and cuda_driver.available_memory() >= 0
    assert bool(cuda_driver.first_device()) == bool(cuda_driver.available_memory())
    assert capfd.readouterr() == ("", "")
