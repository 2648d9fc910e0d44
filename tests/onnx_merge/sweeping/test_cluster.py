"""Sweeps on a local Dask cluster give the same models, even if workers die."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError
from onnx_merge.sweeping import cluster, executors, sweep
from onnx_merge.sweeping.files import shares
from onnx_merge.tuning.compression import ClusterTuning

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "models" / "digits_cnn.onnx"
KEEPS = shares(0.3, 0.7, 5)
PATIENCE = 120
"""Seconds, for processes to start on a busy machine."""


def swept(folder, where, progress=lambda stage: None):
    """Hashes of the models that a sweep wrote to ``folder``. On CUDA two runs differ in the last bits."""
    options = Options.make({"keep": 1, "align": 8, "calib_samples": 64, "provider": "cpu"})
    found = sweep.run(DIGITS, folder, options, KEEPS, where, progress=progress)
    assert [(p.keep, p.status, p.reason) for p in found.points] == [(keep, "done", None) for keep in KEEPS]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.onnx"))}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the sweep gives in this process, with as many threads as the workers have."""
    hashes = swept(tmp_path_factory.mktemp("here"), contextlib.nullcontext(executors.InProcess(1)))
    assert len(hashes) == len(KEEPS)
    return hashes


class Processes:
    """A scheduler and workers, each in a process of its own."""

    def __init__(self, folder):
        self._folder, self._all = folder, []
        self.workers = []

    def start(self, *arguments):
        settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "start_new_session": True}
        log = (self._folder / f"{len(self._all)}.log").open("wb")
        with log:
            command = [sys.executable, "-m", "dask", *arguments, "--dashboard-address", "127.0.0.1:0"]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **settings)
        self._all.append(process)
        return process

    def scheduler(self):
        file = self._folder / "scheduler.json"
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):  # not there, or half written
                return str(json.loads(file.read_text())["address"])
            time.sleep(0.1)
        raise TimeoutError("no scheduler")

    def worker(self, address):
        local = self._folder / f"worker{len(self._all)}"
        arguments = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--local-directory", str(local)]
        self.workers.append(self.start("worker", address, *arguments))

    def close(self):
        for process in reversed(self._all):
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "dask").mkdir()
    some = Processes(tmp_path / "dask")
    try:
        yield some
    finally:
        some.close()


@pytest.fixture
def address(processes):
    """The address of a scheduler with two workers."""
    found = processes.scheduler()
    for _ in range(2):
        processes.worker(found)
    with distributed.Client(found, timeout=PATIENCE, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
    return found


def test_a_local_cluster(tmp_path, expected):
    """Of threads of this process, in which only one candidate at a time is made."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp", "host": "127.0.0.1"}
    settings |= {"dashboard_address": "127.0.0.1:0", "local_directory": str(tmp_path)}
    with distributed.LocalCluster(**settings) as local:
        assert swept(tmp_path / "out", executors.executor(scheduler=local.scheduler_address)) == expected


def test_a_scheduler_and_workers_from_the_command_line(tmp_path, address, expected):
    arguments = ["sweep", DIGITS, "-o", tmp_path / "out", "--scheduler", address, "--align", "8", "--steps", "5"]
    arguments += ["--from", "0.3", "--to", "0.7", "--calib-samples", "64", "--provider", "cpu"]
    command = [sys.executable, "-W", "error", "-m", "onnx_merge", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=5 * PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    points = json.loads((tmp_path / "out" / "sweep.json").read_text())["points"]
    assert {point["file"]: point["sha256"] for point in points} == expected


def test_a_worker_that_is_killed(tmp_path, processes, address, expected):
    killed = []

    def kill(stage):
        if stage == f"1 of {len(KEEPS)} are done":  # then others are under way
            os.kill(processes.workers[0].pid, signal.SIGKILL)
            killed.append(stage)

    assert swept(tmp_path / "out", cluster.connected(address, ClusterTuning(seconds=PATIENCE)), kill) == expected
    assert killed


def test_all_workers_are_killed_and_one_comes_back(tmp_path, processes, address, expected):
    def kill(stage):
        if stage == f"1 of {len(KEEPS)} are done":
            for worker in processes.workers:
                os.kill(worker.pid, signal.SIGKILL)
            processes.worker(address)

    assert swept(tmp_path / "out", cluster.connected(address, ClusterTuning(seconds=PATIENCE)), kill) == expected


def test_no_scheduler_and_no_workers(processes):
    with pytest.raises(OnnxMergeError, match="cannot be reached within 3 s"):  # nobody listens there
        cluster.connected("tcp://127.0.0.1:9", ClusterTuning(seconds=3)).__enter__()
    address = processes.scheduler()
    with pytest.raises(OnnxMergeError, match="the cluster has had no worker for 3 s"):
        cluster.connected(address, ClusterTuning(seconds=3)).__enter__()
