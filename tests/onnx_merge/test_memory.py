"""The peak of a run stays under --memory-limit and what Python and the libraries take, whatever the model is like."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from memorynets import CASES

pytest.importorskip("resource", reason="the system does not tell the peak")

LIMIT, LIBRARIES = 600, 500
"""Megabytes."""
RUN = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(code, peak // (1024 if sys.platform == "darwin" else 1))"""
"""In a process of its own, which is small: what is forked from a large one begins with that one's peak."""


def peak(folder, case, *args):
    """Megabytes that a run of the tool takes at most."""
    onnx.save(case.model(), folder / "in.onnx")
    if case.calib is not None:
        samples = np.random.default_rng(1).standard_normal(case.calib, np.float32)
        np.savez(folder / "calib.npz", x=samples)
        args = ("--calib", str(folder / "calib.npz"), *args)
    tool = [sys.executable, "-m", "onnx_merge", str(folder / "in.onnx"), str(folder / "out.onnx"), "--force", "--quiet"]
    limit = ("--memory-limit", f"{LIMIT}MB", "--provider", "cpu")
    run = [sys.executable, "-c", RUN, *tool, *limit, *case.args, *args]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    code, kilobytes = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return kilobytes / 1000


@pytest.mark.parametrize("name", CASES)
def test_a_run_keeps_to_the_limit(tmp_path, name):
    assert peak(tmp_path, CASES[name], "--keep", "0.5") < LIMIT + LIBRARIES
