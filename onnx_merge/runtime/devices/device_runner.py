"""Run subgraphs of a model on a device such as a GPU: sessions are reused, and tensors stay on the device."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime.cuda_driver import available_memory
from onnx_merge.runtime.devices.device_tensor import DeviceTensor
from onnx_merge.runtime.devices.reusable_model import ReusableModel, reusable
from onnx_merge.runtime.onnxruntime_import import onnxruntime
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.segment_runner import SegmentRunner
from onnx_merge.runtime.session import Session, loaded
from onnx_merge.tuning.runtime import DEVICE
from passes.graph.model import Array
from passes.interface.engine import Loaded
from passes.interface.errors import RunError

OUT_OF_MEMORY = ("Failed to allocate memory", "out of memory", "CUDNN_STATUS_ALLOC_FAILED")
REAL = (np.float32, np.float16)
"""Types of the tensors that stay on a device."""


@dataclass
class Traffic:
    """What a run has cost: ``sessions`` that were made, ``runs``; bytes that went ``to_device`` and ``to_host``."""

    sessions: int = 0
    runs: int = 0
    to_device: int = 0
    to_host: int = 0


@dataclass
class DeviceRunner:
    """An engine like `SegmentRunner`, for providers where loading and copying take longer than running.

    ``device``: onnxruntime's name of where tensors stay, "cpu" in tests of this class without a GPU.
    """

    provider: ProviderChoice
    device: str = "cuda"
    traffic: Traffic = field(default_factory=Traffic)
    reuses: bool = True
    _sessions: OrderedDict[bytes, dict[int | None, Session]] = field(default_factory=OrderedDict)
    """Structure -> number of samples in a batch -> session; None for one that has not run yet."""

    def __getstate__(self) -> dict[str, object]:
        """State for another process, which loads sessions of its own."""
        return {**vars(self), "_sessions": OrderedDict()}

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model`` and return a function that runs it.

        Raises
        ------
        RunError: the model cannot be loaded or run, or an output is not a tensor.
        """
        shared = reusable(model)
        if shared is None:
            return self._plainly(model)
        session = self._session(shared)
        if not session.takes_values:
            return self._plainly(model)
        weights = {name: self._put(array) for name, array in shared.weights.items()}
        kinds = [declared.dtype for declared in session.outputs]

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            given = {own: self._put(feeds[name]) for name, own in shared.inputs.items() if name in feeds}
            found = self._run(shared, _rows(feeds), {**weights, **given})
            self.traffic.runs += 1
            results = zip(shared.outputs, found, kinds, strict=True)
            return {n: feeds[n] if n in shared.inputs else self._result(v, kind) for n, v, kind in results}

        return run

    def placed(self, feed: Mapping[str, Array]) -> dict[str, Any]:
        """``feed`` with its large arrays of real numbers on the device."""
        large = {n for n, a in feed.items() if a.dtype in REAL and a.nbytes > DEVICE.small_bytes}
        return {n: DeviceTensor(self._put(a), a.dtype, self) if n in large else a for n, a in feed.items()}

    def _plainly(self, model: onnx.ModelProto) -> Loaded:
        """A session of ``model`` alone, whose inputs and outputs are arrays."""
        self.traffic.sessions += 1
        run = SegmentRunner(self.provider)(model)

        def on_host(feeds: Mapping[str, Any]) -> Mapping[str, Array]:
            return run({n: np.asarray(a) if isinstance(a, DeviceTensor) else a for n, a in feeds.items()})

        return on_host

    def _session(self, shared: ReusableModel, rows: int | None = None) -> Session:
        """The session for batches of ``rows`` samples, whose plans would be lost with every change; any if None."""
        found = self._sessions.setdefault(shared.content, {})
        self._sessions.move_to_end(shared.content)
        if found and (rows is None or (rows not in found and len(found) >= DEVICE.batch_sizes)):
            return next(iter(found.values()))
        if rows not in found:
            found[rows] = found.pop(None) if None in found else self._load(shared)
        while sum(map(len, self._sessions.values())) > DEVICE.most_sessions and len(self._sessions) > 1:
            self._sessions.popitem(last=False)
        return found[rows]

    def _load(self, shared: ReusableModel) -> Session:
        try:
            made = loaded(shared.model, self.provider, spinning=False)
        except OnnxMergeError as error:
            raise RunError(str(error)) from error
        self.traffic.sessions += 1
        return made

    def _run(self, shared: ReusableModel, rows: int, feeds: Mapping[str, Any], again: bool = True) -> list[Any]:
        """``again``: whether it is tried once more where memory is short, without the sessions so far."""
        try:
            return self._session(shared, rows).run_on_device(feeds, self.device)
        except OnnxMergeError as error:
            if not again or not any(what in str(error) for what in OUT_OF_MEMORY):
                raise RunError(str(error)) from error
        self._sessions.clear()
        gc.collect()
        return self._run(shared, rows, feeds, again=False)

    def _put(self, array: Array | DeviceTensor) -> Any:
        """The OrtValue of ``array``: real numbers on the device, others on the host, where kernels read sizes."""
        if isinstance(array, DeviceTensor):
            return array.value
        make = onnxruntime().OrtValue.ortvalue_from_numpy
        array = np.require(array, requirements=["C", "W"])
        if array.dtype not in REAL or self.device == "cpu":
            return make(array)
        self.traffic.to_device += array.nbytes
        return make(array, self.device, 0)

    def _result(self, value: Any, dtype: np.dtype[Any]) -> Any:
        """A tensor as a `DeviceTensor` where it stays on the device; small ones and those of integers as arrays."""
        if dtype not in REAL:
            return np.array(value.numpy())
        tensor = DeviceTensor(value, dtype, self)
        return tensor if tensor.nbytes > DEVICE.small_bytes else tensor.host()

    def compute(self, model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Any:
        """The only output of ``model``, on the device."""
        (found,) = self(model)(feeds).values()
        return found

    def copied(self, size: int) -> None:
        """Count ``size`` bytes that were copied to the host."""
        self.traffic.to_host += size


def _rows(feeds: Mapping[str, Array]) -> int:
    """Size of the first axis of the largest array."""
    largest = max(feeds.values(), key=lambda a: a.nbytes, default=None)
    return len(largest) if largest is not None and largest.ndim else 0


def engine_of(provider: ProviderChoice) -> DeviceRunner | SegmentRunner:
    """The engine that runs subgraphs on ``provider``."""
    return DeviceRunner(provider) if provider.on_device else SegmentRunner(provider)


def room_on_device(provider: ProviderChoice, processes: int = 1) -> int:
    """Bytes of a device's own memory that the activations of one of ``processes`` may take; 0 on the CPU."""
    return int(DEVICE.memory_share * available_memory() / processes) if provider.on_device else 0
