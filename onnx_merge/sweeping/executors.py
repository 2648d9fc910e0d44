"""Executors for the candidates of a sweep: this process, several processes on this machine, or a cluster."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from onnx_merge.compression.job import Job
from onnx_merge.errors import UsageError
from onnx_merge.runtime.threads import share_of_cores
from onnx_merge.sweeping.candidates import Candidate, CandidateResult, pack, run_candidate, run_packed


class Executor(Protocol):
    """Computes candidates."""

    @property
    def processes(self) -> int:
        """The number of processes that share this machine's memory, including this one."""

    @property
    def sends(self) -> bool:
        """Whether candidates are computed in other processes, to which the job is sent."""

    def run(self, job: Job, keeps: Sequence[float]) -> Iterator[CandidateResult]:
        """One result for each share in ``keeps``, in the order of completion. ``job`` is prepared."""


class InProcess:
    """Computes candidates one after another in this process. ``threads`` is the number of threads for each; None for no
    limit."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self.processes = 1
        self.sends = False

    def run(self, job: Job, keeps: Sequence[float]) -> Iterator[CandidateResult]:
        """One result for each share in ``keeps``, in their order, computed in this process."""
        for keep in keeps:
            job.progress(f"keep {keep:g}")
            yield run_candidate(job, Candidate(keep, self._threads))


class Processes:
    """Computes candidates in ``jobs`` processes on this machine, which share its cores."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self.processes = jobs + 1  # this process keeps the analysis in memory too
        self.sends = True

    def run(self, job: Job, keeps: Sequence[float]) -> Iterator[CandidateResult]:
        """One result for each share in ``keeps``, computed in processes of their own, in the order of completion.

        Raises
        ------
        UsageError: the model is too large to be sent.
        """
        from joblib.externals.loky.process_executor import BrokenProcessPool

        # The largest first: they take longest, and smaller ones then balance the load.
        left = [Candidate(keep, share_of_cores(self._jobs)) for keep in sorted(keeps, reverse=True)]
        job.progress(f"{len(keeps)} candidates, {self._jobs} at a time")
        with tempfile.TemporaryDirectory(prefix="onnx_merge-") as folder:
            path = Path(folder, "job.pickle")  # read by each process instead of sent with each candidate
            path.write_bytes(pack(job))
            for jobs in (self._jobs, max(2, self._jobs // 2)):  # if one process dies, the whole pool breaks
                try:
                    for result in _side_by_side(path, tuple(left), jobs):
                        left.remove(result.candidate)
                        yield result
                except BrokenProcessPool:
                    continue
                return
        for candidate in left:
            yield CandidateResult(candidate, reason="processes died, of too little memory perhaps: take fewer --jobs")


def _side_by_side(path: Path, candidates: Sequence[Candidate], jobs: int) -> Iterator[CandidateResult]:
    from joblib import Parallel, delayed

    parallel = Parallel(jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    yield from parallel(delayed(_run_from)(path, candidate) for candidate in candidates)


def _run_from(path: Path, candidate: Candidate) -> CandidateResult:
    return run_packed(path.read_bytes(), candidate)


@contextlib.contextmanager
def executor(jobs: int = 1, scheduler: str | None = None) -> Iterator[Executor]:
    """The executor that the options select, for the duration of the block.

    Raises
    ------
    UsageError: the options are invalid, or a library is not installed.
    OnnxMergeError: the cluster cannot be reached.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    if scheduler is None:
        yield Processes(jobs) if jobs > 1 else InProcess()
        return
    if jobs > 1:
        raise UsageError("jobs and scheduler contradict each other: on a cluster, its workers say how many there are")
    from onnx_merge.sweeping.cluster import connected

    with connected(scheduler) as cluster:
        yield cluster
