"""Chooses the provider on which a run of the tool takes less time for a model, by running the model on both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Optimisation, Session
from onnx_merge.tuning.runtime import DEVICE

Array = NDArray[Any]


def faster_provider(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    size: int,
    candidate: ProviderChoice,
    optimisation: Optimisation = "all",
) -> tuple[ProviderChoice, str]:
    """``candidate`` or the CPU, and a note that says why. ``feeds``: one batch of ``size`` samples."""
    where = f"{candidate.name.upper()} ({candidate.reason})"
    try:
        device = _times(model, feeds, candidate, optimisation)
    except OnnxMergeError as error:
        return CPU, f"runs on the CPU: {where} cannot run the model: {error}"
    host = _times(model, feeds, CPU, optimisation)
    slower = ProviderChoice("cpu", f"faster than {where}")
    found = candidate if estimate(*device, size) < estimate(*host, size) else slower
    loaded, ran = (f"{a:.2g} s there and {b:.2g} s on the CPU" for a, b in zip(device, host, strict=True))
    note = f"{size} sample{'s' * (size > 1)} took {ran}, loading the model {loaded}"
    return found, f"runs on {where if found is candidate else f'the CPU, not on {where}'}: {note}"


def estimate(load: float, batch: float, size: int) -> float:
    """Seconds that a run of the tool spends on models that take ``load`` seconds to load, and ``batch`` to run on
    ``size`` samples."""
    return DEVICE.loads * load + DEVICE.samples * batch / size


def _times(
    model: onnx.ModelProto, feeds: Mapping[str, Array], provider: ProviderChoice, optimisation: Optimisation
) -> tuple[float, float]:
    """Seconds to load the model, first run included beyond a usual one, and seconds of a usual run."""
    start = time.perf_counter()
    session = Session(model, provider, optimisation=optimisation)
    session.run(feeds)
    first = time.perf_counter()
    session.run(feeds)
    again = time.perf_counter() - first
    return max(0.0, first - start - again), again
