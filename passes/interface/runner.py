"""Runs passes one after the other, times them, names the one that fails and checks the graph after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import onnx

from passes.interface.errors import PassError
from passes.interface.model_pass import Pass, PassResult, WorkingModel

Stage = Callable[[str], AbstractContextManager[None]]
"""Surrounds the pass of the given name, to time it and to show it."""
Progress = Callable[[str], None]
"""Is given the name of each pass as it begins."""
LARGEST = 2**31 - 1
"""Bytes of a model that protobuf can serialise, and the checker can read."""

_checking: ContextVar[bool] = ContextVar("checking", default=False)


class GraphCheckError(Exception):
    """A pass made an invalid graph of a valid one: a fault of the pass."""


def silent(stage: str) -> None:
    """Progress that is not shown."""


def untimed(name: str) -> AbstractContextManager[None]:
    """A stage that is neither timed nor shown."""
    return nullcontext()


class StageTimer:
    """Seconds by stage, summed over all times that a stage is entered."""

    def __init__(self, progress: Progress = silent) -> None:
        self.seconds: dict[str, float] = {}
        self._progress, self._start = progress, time.perf_counter()

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process: the terminal that progress is shown on stays here."""
        return {"seconds": {}, "_progress": silent, "_start": self._start}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block as stage ``name``."""
        self._progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """All stages and the time since the beginning."""
        return {**self.seconds, "total": time.perf_counter() - self._start}


@contextmanager
def checking_graphs(wanted: bool = True) -> Iterator[None]:
    """Where ``wanted``, every pass that runs in the block has its graph checked by `onnx.checker`."""
    token = _checking.set(wanted or _checking.get())
    try:
        yield
    finally:
        _checking.reset(token)


def run_passes(passes: Sequence[Pass], model: WorkingModel, stage: Stage = untimed) -> PassResult:
    """Run ``passes`` in order. The reasons and notes of all of them are in the result.

    An error that leaves a pass keeps its type and message, and has a note (`BaseException.add_note`) with the names of
    the pass and of those before it.

    Raises
    ------
    PassError: a fact that a pass requires is not known; also what a pass raises.
    GraphCheckError: while graphs are checked (see `checking_graphs`), a pass made an invalid one of a valid one.
    """
    result = PassResult(model)
    done: list[str] = []
    checks = _checking.get() and _problem(model.proto) is None
    for one in passes:
        try:
            _check_requirements(one, result.model)
            with stage(one.name):
                step = one.run(result.model)
            if checks and step.changed and (problem := _problem(step.model.proto)) is not None:
                raise GraphCheckError(f"pass {one.name!r} made an invalid graph: {problem}")
        except Exception as error:
            error.add_note(f"in pass {one.name!r}, " + (f"after {', '.join(done)}" if done else "the first"))
            raise
        done.append(one.name)
        result = PassResult(
            step.model, result.changed or step.changed, {**result.reasons, **step.reasons}, result.notes + step.notes
        )
    return result


def _check_requirements(one: Pass, model: WorkingModel) -> None:
    missing = [kind.__name__ for kind in one.requires if kind not in model.facts]
    if missing:
        raise PassError(f"pass {one.name!r} requires {', '.join(missing)}: run the pass that finds it first")


def _problem(model: onnx.ModelProto) -> str | None:
    """What makes a graph invalid; None where it is valid, or too large to check."""
    if model.ByteSize() > LARGEST or any(t.external_data for t in model.graph.initializer):
        return None
    checked = model
    if model.ir_version < 4:  # there, initializers had to be inputs too, which the last pass sees to
        checked = onnx.ModelProto()
        checked.CopyFrom(model)
        checked.ir_version = 4
    try:
        onnx.checker.check_model(checked)
    except (onnx.checker.ValidationError, ValueError) as error:
        return " ".join(str(error).split())
    return None
