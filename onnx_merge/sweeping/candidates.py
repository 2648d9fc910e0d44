"""One result among several of one job: what makes it, in this process or another, and what comes back."""

from __future__ import annotations

import pickle
import threading
import time
from dataclasses import dataclass

import onnx

from onnx_merge.compression.job import Evaluation, Job
from onnx_merge.errors import FidelityError, OnnxMergeError, UsageError, internal_error
from onnx_merge.io.save import needs_external_data
from onnx_merge.runtime.session import custom_operators
from onnx_merge.runtime.threads import limited

_alone = threading.Lock()
"""Threads and kernels are set up for a process, but a cluster's worker may run several tasks in one."""


@dataclass(frozen=True)
class Candidate:
    """What is to be made. ``keep``: share of the channels; ``threads`` to make it with, None for as many as there
    are."""

    keep: float
    threads: int | None = None


@dataclass(frozen=True, eq=False)
class CandidateResult:
    """What came of it: a model and what it is worth, or ``reason``, why there is none. A model that misses the gate has
    both."""

    candidate: Candidate
    model: onnx.ModelProto | None = None
    verdict: Evaluation | None = None
    ware: float | None = None
    reason: str | None = None
    seconds: float = 0.0

    @property
    def failure(self) -> FidelityError | None:
        """The gate that the model missed."""
        return self.verdict.failure if self.verdict else None


def run_candidate(job: Job, candidate: Candidate) -> CandidateResult:
    """Compress and judge. Latency is not measured: others may compute at the same time.

    What goes wrong is told in the result, so that the other candidates are made all the same.
    """
    start = time.perf_counter()
    try:
        with custom_operators(job.options.custom_ops), limited(candidate.threads):
            own = job.keeping(candidate.keep)
            compressed = own.compress(own.settings)
            verdict = own.judge(compressed, own.settings)
    except OnnxMergeError as error:
        return CandidateResult(candidate, reason=error.message, seconds=time.perf_counter() - start)
    except MemoryError:
        return CandidateResult(candidate, reason="not enough memory", seconds=time.perf_counter() - start)
    except Exception as error:  # a fault of ours in one of them does not cost the user the others
        return CandidateResult(candidate, reason=internal_error(error), seconds=time.perf_counter() - start)
    return CandidateResult(
        candidate,
        compressed.model,
        verdict,
        compressed.solution.ware,
        verdict.failure.message if verdict.failure else None,
        time.perf_counter() - start,
    )


def pack(job: Job) -> bytes:
    """A job with all that was found out about its model, for `run_packed`.

    Raises
    ------
    UsageError: the model is too large to be sent.
    """
    if needs_external_data(job.source.model):
        raise UsageError("a model over 2 GB cannot be sent to other processes: leave out --jobs and --scheduler")
    return pickle.dumps(job, pickle.HIGHEST_PROTOCOL)


def run_packed(packed: bytes, candidate: Candidate) -> CandidateResult:
    """`run_candidate` in another process. Every candidate starts from the job as it was sent, so that the result does
    not depend on what else ran there, and making it again gives the same."""
    with _alone:
        return run_candidate(pickle.loads(packed), candidate)
