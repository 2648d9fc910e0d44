"""The peer's result on one model: onnxsim's structured pruning, run in a process of its own, which may hang or die.

That process runs this file as its script: SOURCE.onnx TARGET.onnx SPARSITY SIMPLIFY, the last 1 or 0.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx
from coverage_measure import Original, Outcome

from onnx_merge.errors import one_line


def installed_peer() -> str | None:
    """The peer's name and version, or None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"onnxsim {importlib.metadata.version('onnxsim')}"
    return None


def measure_peer(original: Original, keep: float, simplify: bool, timeout: float) -> Outcome:
    """The peer's result, or how the child process that makes it failed."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        target = Path(folder, "pruned.onnx")
        call = [sys.executable, __file__, str(original.path), str(target), str(1 - keep), str(int(simplify))]
        try:
            done = subprocess.run(call, timeout=timeout, capture_output=True, text=True, errors="replace")
        except subprocess.TimeoutExpired:
            return Outcome("timeout", f"after {timeout:g} s")
        if done.returncode:
            said = done.stderr.strip().splitlines() or [""]
            return Outcome("crash", one_line(f"exit status {done.returncode} {said[-1]}"))
        pruned = onnx.load(target)
        outcome = Outcome("valid", seconds=float(target.with_suffix(".seconds").read_text()))
    original.judge(pruned, outcome)
    if outcome.valid and outcome.params == 1 and outcome.macs in (1, None):
        outcome.verdict = "untouched"
    return outcome


def prune_in_child(source: str, target: str, sparsity: str, simplify: str) -> None:
    """What the child does: prune the model and write it, with the seconds beside it."""
    onnxsim = importlib.import_module("onnxsim")
    model = onnx.load(source)
    start = time.perf_counter()
    if simplify == "1":
        model, _ = onnxsim.simplify(model)
    pruned = onnxsim.apply_structured_pruning(model, sparsity=round(float(sparsity), 9))
    seconds = time.perf_counter() - start
    onnx.save(pruned, target)
    Path(target).with_suffix(".seconds").write_text(str(seconds))


if __name__ == "__main__":
    prune_in_child(*sys.argv[1:])
