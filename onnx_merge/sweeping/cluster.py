"""The candidates of a sweep on the workers of a Dask cluster. Workers may come, go and die meanwhile."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from onnx_merge.compression.job import Job
from onnx_merge.errors import OnnxMergeError, UsageError, one_line
from onnx_merge.sweeping.candidates import Candidate, CandidateResult, pack, run_packed

SECONDS = 10
"""For the scheduler to answer, and for a first worker to be there."""
RETURN_SECONDS = 120
"""For a worker to come back, once all have died."""
ROUNDS = 5
"""Times that the job is sent, if all workers that held it died."""
LOGGERS = ("distributed", "distributed.client")
"""Those that have a level of their own."""
RETRIES = 2
"""Times that a candidate is tried again that failed for a reason outside of it."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """The workers of the Dask scheduler at ``address``, for the block.

    Raises
    ------
    UsageError: Dask is not installed, or there can be no such address.
    OnnxMergeError: the scheduler cannot be reached, or has no workers.
    """
    try:
        dask: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise UsageError("scheduler needs Dask: pip install 'onnx_merge[cluster]'") from error
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+/?", address):
        raise UsageError(f"scheduler must be the address of a Dask scheduler, such as tcp://host:8786, not {address!r}")
    with _quiet():
        try:
            client = dask.Client(address, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            why = f"the scheduler at {address} cannot be reached within {SECONDS} s: {one_line(str(error), 200)}"
            raise OnnxMergeError(why) from error
        with client:
            cluster = Cluster(dask, client)
            cluster.await_worker(SECONDS)
            yield cluster


class Cluster:
    """Workers on which candidates are made. Each of these takes as many threads as the smallest worker has: where it is
    made makes no difference to the result."""

    def __init__(self, dask: Any, client: Any) -> None:
        self._dask, self._client = dask, client
        self.processes = 1  # workers have machines of their own
        self.sends = True

    def run(self, job: Job, keeps: Sequence[float]) -> Iterator[CandidateResult]:
        """See `onnx_merge.sweeping.executors.Executor`.

        Raises
        ------
        UsageError: the model is too large to be sent.
        """
        packed = pack(job)
        sizes = self._client.nthreads().values()
        job.progress(f"{len(keeps)} candidates, {len(sizes)} workers")
        # The largest first: they take longest, and the others fill the gaps.
        left = [Candidate(keep, min(sizes, default=1)) for keep in sorted(keeps, reverse=True)]
        reason = "all workers of the cluster died, again and again"
        for _ in range(ROUNDS):
            try:
                self.await_worker(RETURN_SECONDS)
            except OnnxMergeError as error:  # what is done is not lost for that
                reason = error.message
                break
            for result in self._round(packed, tuple(left)):
                left.remove(result.candidate)
                yield result
            if not left:
                return
        yield from (CandidateResult(c, reason=reason) for c in left)

    def _round(self, packed: bytes, candidates: Sequence[Candidate]) -> Iterator[CandidateResult]:
        """Results of ``candidates``, but not of those that were lost with the last worker that held the job."""
        # To every worker at once: what one alone holds would be lost with it.
        try:
            everywhere = self._client.scatter(packed, broadcast=True, hash=False)
        except OSError:  # one of them died meanwhile
            return
        run = uuid.uuid4().hex[:8]
        futures = {
            self._client.submit(run_packed, everywhere, c, key=f"onnx_merge-{run}-{c.keep:g}", retries=RETRIES): c
            for c in candidates
        }
        for future in self._dask.as_completed(futures, loop=self._client.loop):
            candidate = futures[future]
            try:
                yield future.result()
            except self._dask.CancelledError:  # the job went with the workers
                continue
            except self._dask.scheduler.KilledWorker as error:
                reason = f"{error.allowed_failures + 1} workers died of it: is there enough memory?"
                yield CandidateResult(candidate, reason=reason)
            except Exception as error:  # a worker without onnx_merge, or with another version of it
                reason = one_line(f"the worker failed: {type(error).__name__}: {error}", 200)
                yield CandidateResult(candidate, reason=reason)

    def await_worker(self, seconds: float) -> None:
        """Wait until there is one.

        Raises
        ------
        OnnxMergeError: there is none, or the scheduler is gone.
        """
        try:
            self._client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            why = f"the cluster has had no worker for {seconds} s: start one with dask worker"
            raise OnnxMergeError(why) from error
        except OSError as error:
            raise OnnxMergeError(f"the scheduler is gone: {one_line(str(error), 200)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs every lost connection, with tracebacks; what matters of it is in the results."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
