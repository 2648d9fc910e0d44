"""Compute the candidates of a sweep on the workers of a Dask cluster, which may join, leave and fail at any time."""

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
from onnx_merge.tuning.compression import CLUSTER, ClusterTuning

LOGGERS = ("distributed", "distributed.client")
"""Dask's loggers that have a level of their own."""


@contextlib.contextmanager
def connected(address: str, tuning: ClusterTuning = CLUSTER) -> Iterator[Cluster]:
    """The workers of the Dask scheduler at ``address``, for the duration of the block.

    Raises
    ------
    UsageError: Dask is not installed, or the address is malformed.
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
            client = dask.Client(address, timeout=tuning.seconds, set_as_default=False)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            why = f"the scheduler at {address} cannot be reached within {tuning.seconds} s: {one_line(str(error), 200)}"
            raise OnnxMergeError(why) from error
        with client:
            cluster = Cluster(dask, client, tuning)
            cluster.await_worker(tuning.seconds)
            yield cluster


class Cluster:
    """Workers that compute candidates. Each candidate uses as many threads as the smallest worker has, so that the
    result does not depend on the worker."""

    def __init__(self, dask: Any, client: Any, tuning: ClusterTuning) -> None:
        self._dask, self._client, self._tuning = dask, client, tuning
        self.processes = 1  # the workers do not share this machine's memory
        self.sends = True

    def run(self, job: Job, keeps: Sequence[float]) -> Iterator[CandidateResult]:
        """One result for each share in ``keeps``, computed by the workers, in the order of completion.

        Raises
        ------
        UsageError: the model is too large to be sent.
        """
        packed = pack(job)
        sizes = self._client.nthreads().values()
        job.progress(f"{len(keeps)} candidates, {len(sizes)} workers")
        # The largest first: they take longest, and smaller ones then balance the load.
        left = [Candidate(keep, min(sizes, default=1)) for keep in sorted(keeps, reverse=True)]
        reason = "all workers of the cluster died, again and again"
        for _ in range(self._tuning.rounds):
            try:
                self.await_worker(self._tuning.return_seconds)
            except OnnxMergeError as error:  # the finished results are kept
                reason = error.message
                break
            for result in self._round(packed, tuple(left)):
                left.remove(result.candidate)
                yield result
            if not left:
                return
        yield from (CandidateResult(c, reason=reason) for c in left)

    def _round(self, packed: bytes, candidates: Sequence[Candidate]) -> Iterator[CandidateResult]:
        """The results of ``candidates``, except those that were lost with the last worker that held the job."""
        # To every worker: data that only one worker holds is lost with it.
        try:
            everywhere = self._client.scatter(packed, broadcast=True, hash=False)
        except OSError:  # a worker failed in the meantime
            return
        run = uuid.uuid4().hex[:8]
        futures = {
            self._client.submit(
                run_packed, everywhere, c, key=f"onnx_merge-{run}-{c.keep:g}", retries=self._tuning.retries
            ): c
            for c in candidates
        }
        for future in self._dask.as_completed(futures, loop=self._client.loop):
            candidate = futures[future]
            try:
                yield future.result()
            except self._dask.CancelledError:  # the job was lost with the workers
                continue
            except self._dask.scheduler.KilledWorker as error:
                reason = f"{error.allowed_failures + 1} workers died of it: is there enough memory?"
                yield CandidateResult(candidate, reason=reason)
            except Exception as error:  # a worker without onnx_merge, or with another version of it
                reason = one_line(f"the worker failed: {type(error).__name__}: {error}", 200)
                yield CandidateResult(candidate, reason=reason)

    def await_worker(self, seconds: float) -> None:
        """Wait until there is a worker.

        Raises
        ------
        OnnxMergeError: there is none after ``seconds`` seconds, or the scheduler is gone.
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
    """Suppress Dask's log of lost connections, with their tracebacks; the results contain what is relevant."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
