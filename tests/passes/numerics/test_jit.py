"""Compile once: one signature a kernel whatever comes in, nothing compiled by a second process."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

import passes
from passes.numerics import jit, norms, reprune, similarity
from passes.numerics.arrays import as_rows


def read_only(rows):
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


def unaligned(rows):
    return np.frombuffer(b"\0" + rows.tobytes(), np.uint8)[1:].view(rows.dtype).reshape(rows.shape)


FORMS = {
    "float32": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "big-endian": lambda rows: rows.astype(">f4"),
    "fortran": np.asfortranarray,
    "strided": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "read-only": read_only,
    "unaligned": unaligned,
    "list": lambda rows: rows.tolist(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_rows_gives_the_same_and_compiles_nothing_new(form):
    rows = np.random.default_rng(0).integers(-8, 8, (12, 6)).astype(np.float32)  # exact in float16 too
    other = form(rows)
    assert as_rows(other).flags.writeable and as_rows(other).dtype == np.float32

    def results(x, biases):
        return [
            norms.row_norms(x),
            norms.median_distances(x),
            *similarity.best_match(x, biases, [0, 1, 2], range(3, 12), 0.85),
            *similarity.parallel_classes(x, 1e-6),
            reprune.elect(x, 5),
            reprune.elect_kernels(np.reshape(x, (12, 3, 2)), 5),
        ]

    before = read_only(rows)
    for got, want in zip(results(other, form(rows[:, :1])), results(rows, rows[:, :1]), strict=True):
        assert (got == want).all()
    assert (rows == before).all(), "an argument was written to"
    assert max(len(kernel.signatures) for kernel in jit.KERNELS) == 1


SCRIPT = """
import numpy as np
from passes.numerics import similarity
from passes.numerics.jit import KERNELS
rows = np.arange(12.0).reshape(4, 3)
similarity.parallel_classes(rows, 1e-6)
stats = [kernel.stats for kernel in KERNELS]
print(sum(sum(s.cache_misses.values()) for s in stats), sum(sum(s.cache_hits.values()) for s in stats))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    folder = str(Path(passes.__file__).parents[1])
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": folder}

    def run():
        command = [sys.executable, "-W", "error", "-c", SCRIPT]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()

    assert run() == ["2", "0"]  # the norms and the classes
    assert run() == ["0", "2"]


def test_threads_may_call_at_once():
    rows = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    want = norms.row_norms(rows)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(norms.row_norms, [rows] * 16):
            assert (got == want).all()


def test_without_a_place_for_the_cache_kernels_still_compile(monkeypatch):
    real = numba.njit

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.setattr(jit, "KERNELS", [])
    assert jit.serial(lambda x: x + 1)(1) == 2


def test_what_is_to_be_compiled_is_known_before(tmp_path, monkeypatch):
    class Kernel:
        def __init__(self, index):
            self._cache = type("Cache", (), {"_cache_file": type("File", (), {"_index_path": str(index)})()})()

    (tmp_path / "there").touch()
    for kernels, known in (
        ([], True),
        ([object(), Kernel(tmp_path / "there")], True),
        ([Kernel(tmp_path / "there"), Kernel(tmp_path / "absent")], True),  # a run compiles those that it calls
        ([Kernel(tmp_path / "absent"), Kernel(tmp_path / "lacking")], False),
    ):
        monkeypatch.setattr(jit, "KERNELS", kernels)
        assert jit.compiled_before() == known
