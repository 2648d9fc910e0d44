"""Latency of models in OpenVINO, in turns and in one process, as `onnx_merge.latency.measure` does in onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.latency.interleaved_timing import interleaved
from onnx_merge.latency.measure import latency_summary

INSTALLED = importlib.util.find_spec("openvino") is not None


def openvino_ratios(
    models: Sequence[onnx.ModelProto], feeds: Mapping[str, NDArray[Any]], threads: int | None, seconds: float
) -> list[float]:
    """Latency of each model on the CPU, relative to the first.

    Raises
    ------
    RuntimeError: OpenVINO cannot load or run a model.
    """
    import openvino

    settings: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    compiled = [core.compile_model(core.read_model(m.SerializeToString()), "CPU", settings) for m in models]
    calls = [partial(one.create_infer_request().infer, dict(feeds)) for one in compiled]
    return [timed.ratio for timed in latency_summary(interleaved(calls, seconds=seconds))]
