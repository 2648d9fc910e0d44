"""One row of the leaderboard: a method's model is made, judged and timed in a process of its own, which may die."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx

from board.methods import CONVERTED, Maker
from board.tasks import Array, Feeds, Task
from onnx_merge.errors import one_line
from onnx_merge.latency.measure import compare_latency
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

LATENCY_SECONDS = 4.0
THREADS = 1

Make = Callable[[], Task]
"""Makes a task; is sent to the other process."""


@dataclass
class Row:
    """What was found of one method on one task; ``failure``: why there is no more."""

    task: str
    method: str
    failure: str | None = None
    params: float | None = None
    """Share of the original's, as the next."""
    macs: float | None = None
    bytes: int | None = None
    measure: float | None = None
    """As `tasks.Score`, as the next two."""
    agreement: float | None = None
    kl: float | None = None
    ms: float | None = None
    """Median of a run on one sample, on one thread."""
    latency: float | None = None
    """Share of the original's, the two models in turns."""
    seconds: float | None = None
    """To make the model."""


def measured(name: str, make: Make, method: str, folder: Path, timeout: float) -> Row:
    """Measure ``method`` on the task ``name`` that ``make`` makes; ``folder``: of the models that are made."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, name, make, method, folder))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return Row(name, method, f"it took more than {timeout:g} s")
        return receiver.recv()
    except EOFError:
        process.join()
        return Row(name, method, f"its process ended with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def row(name: str, task: Task, method: str, folder: Path) -> Row:
    """Measure it in this process."""
    found = Row(name, method)
    try:
        maker = Maker(task, folder)
        start = time.perf_counter()
        model = maker.made(method)
        found.seconds = time.perf_counter() - start
        counted = CONVERTED.get(method, method)
        found.params, found.macs = maker.shares(model if counted == method else maker.made(counted))
        found.bytes = model.ByteSize()
        score = task.score(outputs(model, task), _original_outputs(maker, task, folder))
        found.measure, found.agreement, found.kl = score.measure, score.agreement, score.kl
        one = {key: array[:1] for key, array in task.judged().items()}
        timed = compare_latency([maker.original, model], one, CPU, THREADS, seconds=LATENCY_SECONDS).models[1]
        found.ms, found.latency = timed.median_ms, timed.ratio
    except Exception as error:  # the other rows go on
        found.failure = one_line(f"{type(error).__name__}: {error}")[:300]
    return found


def outputs(model: onnx.ModelProto, task: Task) -> Array:
    """First output on the judged samples."""
    session, feeds = Session(model, CPU, threads=THREADS), task.judged()
    starts = range(0, len(next(iter(feeds.values()))), task.batch)
    name = model.graph.output[0].name
    found = [session.run(_part(feeds, k, task.batch))[name] for k in starts]
    return np.concatenate(found)


def _original_outputs(maker: Maker, task: Task, folder: Path) -> Array:
    """Of the original, kept in a file."""
    path = folder / "original.npy"
    if not path.exists():
        np.save(path, outputs(maker.original, task))
    return np.asarray(np.load(path))


def _part(feeds: Feeds, start: int, size: int) -> Feeds:
    return {name: array[start : start + size] for name, array in feeds.items()}


def _send(sender: Connection, name: str, make: Make, method: str, folder: Path) -> None:
    sender.send(row(name, make(), method, folder))


def as_line(found: Row) -> dict[str, object]:
    """For JSON, without what is not known."""
    return {key: value for key, value in asdict(found).items() if value is not None}
