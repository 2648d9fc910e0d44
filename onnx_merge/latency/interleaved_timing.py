"""Time several functions in interleaved rounds, for `onnx_merge.latency.measure`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from onnx_merge.errors import UsageError
from onnx_merge.tuning.compression import TIMING

Clock = Callable[[], float]
Round = tuple[tuple[float, ...], ...]
"""For each model, the seconds of its runs in one round."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float = TIMING.seconds,
    max_rounds: int = TIMING.most_rounds,
    clock: Clock = time.perf_counter,
    settle: Callable[[], None] | None = None,
) -> list[Round]:
    """The seconds of the runs of each of ``calls``, round by round. In a round, each call has one burst of consecutive
    runs.

    The order rotates from round to round: with two calls it is A B, B A, A B, so that a trend favours neither. All
    bursts have the same number of runs. Before each burst, ``settle`` waits for the process to be idle, because
    onnxruntime's threads spin for about 30 ms after a run, on cores that the next model needs. The first run of a burst
    wakes the threads and fills the caches. It is not counted, unless a run takes so long that this does not matter.

    Raises
    ------
    UsageError: ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise UsageError(f"the time to measure must be above 0 seconds, not {seconds:g}")
    rest = _settle if settle is None else settle
    end = clock() + seconds
    longest = max([[_timed(call, clock) for _ in range(TIMING.warm_up_runs)][-1] for call in calls], default=0.0)
    runs = int(min(max(TIMING.burst_seconds / max(longest, 1e-9), 1), TIMING.burst_runs))
    uncounted = 1 if longest < TIMING.burst_seconds else 0
    rounds: list[Round] = []
    while len(rounds) < TIMING.fewest_rounds or (len(rounds) < max_rounds and clock() < end):
        times: list[tuple[float, ...]] = [()] * len(calls)
        for place in range(len(calls)):
            k = (place + len(rounds)) % len(calls)
            rest()
            times[k] = tuple(_timed(calls[k], clock) for _ in range(uncounted + runs))[uncounted:]
        rounds.append(tuple(times))
    return rounds


def _timed(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


def _settle() -> None:
    """Wait until no thread of this process computes, for at most `TimingTuning.settle_seconds`."""
    end = time.perf_counter() + TIMING.settle_seconds
    while (start := time.perf_counter()) < end:
        used = time.process_time()
        time.sleep(TIMING.idle_seconds)
        if time.process_time() - used < TIMING.idle_share * (time.perf_counter() - start):
            return
