"""BLAS's threads do not stand in onnxruntime's way."""

import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from passes.numerics.threads import WAIT, threads_alternating, threads_for
from passes.numerics.tuning import NUMERICS


def after(imports, **given):
    """What the variable is in a process with these imports."""
    inherited = {name: value for name, value in os.environ.items() if name != WAIT}
    code = f"{imports}; import os; print(os.environ.get({WAIT!r}))"
    done = subprocess.run([sys.executable, "-c", code], env={**inherited, **given}, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def most_threads():
    return max(found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas")


def test_they_wait_the_shortest_time_where_numpy_is_loaded_by_us():
    assert after("import onnx_merge") == "4"


def test_what_the_user_says_of_it_stays():
    assert after("import onnx_merge", **{WAIT: "20"}) == "20"


def test_it_is_too_late_where_numpy_is_there_already():
    assert after("import numpy, onnx_merge") == "None"


@pytest.mark.parametrize("waiting", [None, "4"])
def test_where_they_wait_long_there_is_one(monkeypatch, waiting):
    before = most_threads()
    if waiting is None:
        monkeypatch.delenv(WAIT, raising=False)
    else:
        monkeypatch.setenv(WAIT, waiting)
    with threads_alternating():
        assert most_threads() == (before if waiting else 1)
        with threads_for(NUMERICS.linear_algebra.threaded_unknowns):
            assert most_threads() == (before if waiting else 1)
        with threads_for(NUMERICS.linear_algebra.threaded_unknowns - 1):
            assert most_threads() == 1
    assert most_threads() == before
