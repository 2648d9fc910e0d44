"""Compress one candidate of a sweep, in this process or another, and return its result."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import dataclass

import onnx

from onnx_merge.compression.job import Job
from onnx_merge.compression.result_evaluation import Evaluation, evaluated
from onnx_merge.errors import FidelityError, OnnxMergeError, UsageError, internal_error
from onnx_merge.io.save import needs_external_data
from onnx_merge.plugins.entry_points import load_plugins
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.runtime.threads import limited

_process_lock = threading.Lock()
"""Threads and kernels are configured for the whole process, but a cluster worker may run several tasks in one
process."""


@dataclass(frozen=True)
class Candidate:
    """A result to compute. ``keep`` is the share of channels to keep; ``threads`` is the number of threads, None for no
    limit."""

    keep: float
    threads: int | None = None


@dataclass(frozen=True, eq=False)
class CandidateResult:
    """The result of a candidate: a model and its evaluation, or ``reason``, why there is no model. A model that misses
    the gate has both."""

    candidate: Candidate
    model: onnx.ModelProto | None = None
    evaluation: Evaluation | None = None
    ware: float | None = None
    reason: str | None = None
    seconds: float = 0.0

    @property
    def failure(self) -> FidelityError | None:
        """The gate that the model misses; None if it misses none."""
        return self.evaluation.failure if self.evaluation else None


def run_candidate(job: Job, candidate: Candidate) -> CandidateResult:
    """Compress and evaluate. Latency is not measured, because other candidates may be computed at the same time.

    An error is returned in the result, so that the other candidates are still computed.
    """
    start = time.perf_counter()
    try:
        with custom_operators(job.options.custom_ops), limited(candidate.threads):
            own = job.keeping(candidate.keep)
            compressed = own.compress(own.settings)
            evaluation = evaluated(own, compressed, own.settings)
    except OnnxMergeError as error:
        return CandidateResult(candidate, reason=error.message, seconds=time.perf_counter() - start)
    except MemoryError:
        return CandidateResult(candidate, reason="not enough memory", seconds=time.perf_counter() - start)
    except Exception as error:  # an internal error in one candidate must not lose the others
        return CandidateResult(candidate, reason=internal_error(error), seconds=time.perf_counter() - start)
    return CandidateResult(
        candidate,
        evaluation.model,
        evaluation,
        compressed.solution.ware,
        evaluation.failure.message if evaluation.failure else None,
        time.perf_counter() - start,
    )


def pack(job: Job) -> bytes:
    """A prepared job as bytes, with the analysis of its model, for `run_packed`.

    Raises
    ------
    UsageError: the model is too large to be sent.
    """
    if needs_external_data(job.source.model):
        raise UsageError("a model over 2 GB cannot be sent to other processes: leave out --jobs and --scheduler")
    return pickle.dumps(job, pickle.HIGHEST_PROTOCOL)


def run_packed(packed: bytes, candidate: Candidate) -> CandidateResult:
    """`run_candidate` in another process.

    Every candidate starts from the job as it was sent. The result is therefore reproducible, and does not depend on
    what else ran in the process.
    """
    with _process_lock:
        load_plugins()
        return run_candidate(pickle.loads(packed), candidate)
