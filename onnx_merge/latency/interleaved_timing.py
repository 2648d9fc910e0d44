"""Time several functions in interleaved rounds, for `onnx_merge.latency.measure`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from onnx_merge.errors import UsageError

Clock = Callable[[], float]
Round = tuple[tuple[float, ...], ...]
"""For each model, the seconds of its runs in one round."""

SECONDS = 10.0
"""Default duration of a comparison, without the loading of the models."""
MIN_ROUNDS, MAX_ROUNDS = 5, 30
"""Number of rounds: at least 5, however long they take; 30 give a stable median if there is time."""
WARM_UP_RUNS = 3
"""Untimed runs of each model. The first allocates memory, the second still has cold caches; the last shows how long a
run takes."""
BURST_SECONDS, BURST_RUNS = 0.05, 10
"""In a round, each model has a burst of consecutive runs: as many as fit into this time, at least 1 and at most 10."""
IDLE_SECONDS, IDLE_SHARE, SETTLE_SECONDS = 0.02, 0.3, 0.2
"""The process is idle if it uses less than `IDLE_SHARE` of one core for `IDLE_SECONDS`, several ticks of a coarse clock
(some systems count process time in steps of 4 or 10 ms). `SETTLE_SECONDS` is the maximum wait for an idle process."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float = SECONDS,
    max_rounds: int = MAX_ROUNDS,
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
    longest = max([[_timed(call, clock) for _ in range(WARM_UP_RUNS)][-1] for call in calls], default=0.0)
    runs = int(min(max(BURST_SECONDS / max(longest, 1e-9), 1), BURST_RUNS))
    uncounted = 1 if longest < BURST_SECONDS else 0
    rounds: list[Round] = []
    while len(rounds) < MIN_ROUNDS or (len(rounds) < max_rounds and clock() < end):
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
    """Wait until no thread of this process computes, for at most `SETTLE_SECONDS`."""
    end = time.perf_counter() + SETTLE_SECONDS
    while (start := time.perf_counter()) < end:
        used = time.process_time()
        time.sleep(IDLE_SECONDS)
        if time.process_time() - used < IDLE_SHARE * (time.perf_counter() - start):
            return
