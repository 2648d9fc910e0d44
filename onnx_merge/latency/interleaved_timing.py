"""Calls timed in turns: the clockwork of `onnx_merge.latency.measure`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from onnx_merge.errors import UsageError

Clock = Callable[[], float]
Round = tuple[tuple[float, ...], ...]
"""Seconds of each model's runs in its turn."""

SECONDS = 10.0
"""For one comparison by default, without loading the models."""
MIN_ROUNDS, MAX_ROUNDS = 5, 30
"""Turns of each model: at least 5, however long they take; 30 give a stable median, where there is time."""
WARM_UP_RUNS = 3
"""Untimed ones: the first allocates, the second still finds cold caches; the last says how long one takes."""
TURN_SECONDS, TURN_RUNS = 0.05, 10
"""A turn is as many runs as fit into this time, at least one and at most 10."""
IDLE_SECONDS, IDLE_SHARE, SETTLE_SECONDS = 0.02, 0.3, 0.2
"""The process is idle if it uses less than this share of one core for this long, several ticks of a coarse clock (some
systems count a process's time in steps of 4 or 10 ms); it is waited for so long at most."""


def interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float = SECONDS,
    max_rounds: int = MAX_ROUNDS,
    clock: Clock = time.perf_counter,
    settle: Callable[[], None] | None = None,
) -> list[Round]:
    """Seconds of the runs of each of ``calls``, round by round, each with one turn in a round.

    The first of a round changes: with two, the order is A B, B A, A B, so that a trend favours neither. A turn is some
    runs in a row, as many for all. Between turns it waits for the process to be idle (``settle``): onnxruntime's
    threads look for work for some 30 ms after a run, on cores that the next model needs. The first run of a turn
    wakes its threads and fills the caches; it is not counted, unless a run is so long that this is nothing.
    """
    if not seconds > 0:
        raise UsageError(f"the time to measure must be above 0 seconds, not {seconds:g}")
    rest = _settle if settle is None else settle
    end = clock() + seconds
    longest = max([[_timed(call, clock) for _ in range(WARM_UP_RUNS)][-1] for call in calls], default=0.0)
    runs = int(min(max(TURN_SECONDS / max(longest, 1e-9), 1), TURN_RUNS))
    uncounted = 1 if longest < TURN_SECONDS else 0
    rounds: list[Round] = []
    while len(rounds) < MIN_ROUNDS or (len(rounds) < max_rounds and clock() < end):
        turns: list[tuple[float, ...]] = [()] * len(calls)
        for place in range(len(calls)):
            k = (place + len(rounds)) % len(calls)
            rest()
            turns[k] = tuple(_timed(calls[k], clock) for _ in range(uncounted + runs))[uncounted:]
        rounds.append(tuple(turns))
    return rounds


def _timed(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


def _settle() -> None:
    """Wait until no thread of this process computes, or `SETTLE_SECONDS` where one goes on."""
    end = time.perf_counter() + SETTLE_SECONDS
    while (start := time.perf_counter()) < end:
        used = time.process_time()
        time.sleep(IDLE_SECONDS)
        if time.process_time() - used < IDLE_SHARE * (time.perf_counter() - start):
            return
