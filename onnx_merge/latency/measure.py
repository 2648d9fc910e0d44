"""How long models take to run, measured side by side.

On a machine that does other things too, one model after the other measures the other things: the clock rate, a backup,
a neighbour on the same host. So the models take turns, in changing order, and each run is compared with its neighbours.
"""

from __future__ import annotations

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

from onnx_merge.errors import UsageError
from onnx_merge.latency.interleaved_timing import SECONDS, Clock, Round, interleaved
from onnx_merge.runtime.session import CPU, ProviderChoice, Session, default_threads
from passes.numerics.arrays import has_rows

Array = NDArray[Any]
Source = onnx.ModelProto | bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Latency:
    """The original's and the result's latency at one batch size. Milliseconds are of one run, that is of one batch."""

    before_ms: float
    """Median of the original."""
    after_ms: float
    """Median of the result."""
    before_p90_ms: float
    """90th percentile: one run in ten takes longer."""
    after_p90_ms: float
    ratio: float
    """Median of after / before over turns that are neighbours; see `Timed`. Below 1, the result is faster."""
    provider: str
    threads: int | None
    """Within an operator, on the CPU; None if onnxruntime chose them and the system does not tell how many."""
    batch: int
    """Samples in a run."""
    runs: int
    """Timed runs of each model."""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Timed:
    """Latency of one model among others."""

    median_ms: float
    p90_ms: float
    """90th percentile: one run in ten takes longer."""
    ratio: float
    """To the first model; its own is 1.

    The median of the ratios within rounds (of the medians of the turns), not the ratio of the medians of all runs. A
    machine that is slow for a while is so for the turns of one round, and their ratio does not show it; medians of all
    runs do, if the slow time is about half of all, and the median falls among the slow runs for one model and among the
    fast ones for the other. A disturbance spoils few ratios out of many, upwards or downwards, whichever model it hit.
    Where the noise is Gaussian and independent, both estimates have the same variance, so that nothing is lost.
    """


@dataclass(frozen=True, slots=True)
class Latencies:
    """Models timed side by side, on the same inputs."""

    models: tuple[Timed, ...]
    runs: int
    """Timed runs of each model."""
    batch: int
    """Samples in a run: the size of the inputs' first axis."""
    threads: int | None
    """Within an operator, on the CPU; None if onnxruntime chose them and the system does not tell how many."""
    provider: str

    def pair(self) -> Latency:
        """The first model as the original, the second as the result."""
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
    seconds: float = SECONDS,
    clock: Clock = time.perf_counter,
) -> Latencies:
    """Run ``models`` in turns on ``feeds``, one batch for all of them, and time them.

    A run lasts from arrays to arrays: on CUDA it contains the copies of the inputs to the device and of the outputs
    back, as a caller of onnxruntime with arrays pays for them.

    Parameters
    ----------
    threads: within an operator; onnxruntime's choice by default.
    seconds: after which no further round begins; each model has `MIN_ROUNDS` turns in any case.
    clock: gives seconds.

    Raises
    ------
    UsageError: there are no models, or ``threads`` or ``seconds`` are not positive.
    OnnxMergeError: a model cannot be loaded, or not be run on ``feeds``.
    """
    if not models:
        raise UsageError("there is no model to measure: give at least one")
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    sessions = [Session(model, provider, threads=threads, arena=True) for model in models]
    rounds = interleaved([partial(session.run, feeds) for session in sessions], seconds=seconds, clock=clock)
    return Latencies(
        models=summary(rounds),
        runs=sum(len(turns[0]) for turns in rounds),
        batch=next((len(array) for array in feeds.values() if has_rows(array)), 1),
        threads=threads or default_threads(),
        provider=provider.name,
    )


def latency_ratio(
    before: Source,
    after: Source,
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    threads: int | None = None,
    *,
    seconds: float = SECONDS,
    clock: Clock = time.perf_counter,
) -> float:
    """Latency of ``after`` over that of ``before``, below 1 if it is faster; see `compare_latency`."""
    return compare_latency((before, after), feeds, provider, threads, seconds=seconds, clock=clock).models[1].ratio


def summary(rounds: Sequence[Round]) -> tuple[Timed, ...]:
    """What the seconds of `interleaved` say of each model."""
    found = []
    firsts = [statistics.median(turns[0]) for turns in rounds]
    for turns in zip(*rounds, strict=True):
        ratios = [statistics.median(t) / first if first > 0 else 1.0 for t, first in zip(turns, firsts, strict=True)]
        runs = [1000 * seconds for turn in turns for seconds in turn]
        found.append(Timed(statistics.median(runs), float(np.percentile(runs, 90)), statistics.median(ratios)))
    return tuple(found)
