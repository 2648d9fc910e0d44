"""Measure the latency of several models side by side.

If models are timed one after another, other load on the machine distorts the comparison: the clock rate, a backup, a
neighbour on the same host. The runs of the models are therefore interleaved, in changing order, and each is compared
with runs that are close in time.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.latency.interleaved_timing import Clock, Round, interleaved
from onnx_merge.runtime.probing import default_threads
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import TIMING
from passes.numerics.arrays import samples_in

Array = NDArray[Any]
Source = onnx.ModelProto | bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency of the original and of the result at one batch size, in milliseconds for one run on one batch."""

    before_ms: float
    """Median of the original's runs."""
    after_ms: float
    """Median of the result's runs."""
    before_p90_ms: float
    """90th percentile of the original's runs: one run in ten takes longer."""
    after_p90_ms: float
    ratio: float
    """Median of after / before over the rounds; see `Timed`. Below 1, the result is faster."""
    provider: str
    threads: int | None
    """Threads within an operator on the CPU; None if onnxruntime chose them and the system does not show how many."""
    batch: int
    """Samples in a run."""
    runs: int
    """Timed runs of each model."""

    def to_dict(self) -> dict[str, object]:
        """The fields as a dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Timed:
    """The latency of one of several models."""

    median_ms: float
    p90_ms: float
    """90th percentile: one run in ten takes longer."""
    ratio: float
    """Relative to the first model, whose ratio is 1.

    It is the median over rounds of the ratio of the medians within a round, not the ratio of the medians of all runs. A
    machine that is slow for some time is slow for all bursts of a round, so that their ratio hardly changes. Medians of
    all runs do change if about half of the time is slow: the median may then fall among the slow runs for one model and
    among the fast runs for the other. A disturbance changes few of many ratios, upwards or downwards, whichever model
    it affects. For independent Gaussian noise both estimates have the same variance, so that nothing is lost.
    """


@dataclass(frozen=True, slots=True)
class Latencies:
    """The latencies of models that were timed side by side on the same inputs."""

    models: tuple[Timed, ...]
    runs: int
    """Timed runs of each model."""
    batch: int
    """Samples in a run: the size of the first axis of the inputs."""
    threads: int | None
    """Threads within an operator on the CPU; None if onnxruntime chose them and the system does not show how many."""
    provider: str

    def pair(self) -> Latency:
        """The latencies of the first model as the original and the second as the result."""
        before, after = self.models[:2]
        return Latency(
            before_ms=before.median_ms,
            after_ms=after.median_ms,
            before_p90_ms=before.p90_ms,
            after_p90_ms=after.p90_ms,
            ratio=after.ratio,
            provider=self.provider,
            threads=self.threads,
            batch=self.batch,
            runs=self.runs,
        )


def compare_latency(
    models: Sequence[Source],
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    threads: int | None = None,
    *,
    seconds: float = TIMING.seconds,
    clock: Clock = time.perf_counter,
) -> Latencies:
    """Time ``models`` in interleaved runs on ``feeds``, one batch for all of them.

    A run is timed from NumPy inputs to NumPy outputs. On CUDA it includes the copies to the device and back, as a
    caller of onnxruntime with arrays experiences them. All models are optimised alike: fully, as in deployment, or with
    onnxruntime's basic optimisations if the others break one of the models.

    Parameters
    ----------
    threads: within an operator; onnxruntime's choice by default.
    seconds: after this time no new round begins; there are at least `TimingTuning.fewest_rounds` rounds in any case.
    clock: returns the time in seconds.

    Raises
    ------
    UsageError: there are no models, or ``threads`` or ``seconds`` are not positive.
    OnnxMergeError: a model cannot be loaded, or cannot be run on ``feeds``.
    """
    if not models:
        raise UsageError("there is no model to measure: give at least one")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    sessions = _sessions(models, provider, threads)
    rounds = interleaved([partial(session.run, feeds) for session in sessions], seconds=seconds, clock=clock)
    return Latencies(
        models=latency_summary(rounds),
        runs=sum(len(times[0]) for times in rounds),
        batch=samples_in(feeds),
        threads=threads or default_threads(),
        provider=provider.name,
    )


def _sessions(models: Sequence[Source], provider: ProviderChoice, threads: int | None) -> list[Session]:
    """Sessions of all models at one optimisation level."""
    try:
        return [Session(model, provider, threads=threads, deployed=True) for model in models]
    except OnnxMergeError:
        with contextlib.suppress(OnnxMergeError):
            return [Session(m, provider, threads=threads, deployed=True, optimisation="basic") for m in models]
        raise


def latency_ratio(
    before: Source,
    after: Source,
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    threads: int | None = None,
    *,
    seconds: float = TIMING.seconds,
    clock: Clock = time.perf_counter,
) -> float:
    """The latency of ``after`` divided by that of ``before``; below 1 if it is faster. See `compare_latency`."""
    return compare_latency((before, after), feeds, provider, threads, seconds=seconds, clock=clock).models[1].ratio


def latency_summary(rounds: Sequence[Round]) -> tuple[Timed, ...]:
    """The latency of each model, from the times that `interleaved` returns."""
    found = []
    firsts = [statistics.median(times[0]) for times in rounds]
    for bursts in zip(*rounds, strict=True):
        ratios = [statistics.median(b) / first if first > 0 else 1.0 for b, first in zip(bursts, firsts, strict=True)]
        runs = [1000 * seconds for burst in bursts for seconds in burst]
        found.append(Timed(statistics.median(runs), float(np.percentile(runs, 90)), statistics.median(ratios)))
    return tuple(found)
