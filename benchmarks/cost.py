"""Cost of a run: forward passes of the original, CPU seconds, wall seconds and peak memory.

    python benchmarks/cost.py MODEL.onnx... [--calib FILE] [--json OUT.json] [--sha256] [OPTIONS OF onnx-merge...]

Each model is compressed with the default options (keep 0.6 unless an option sets the amount) in a process of its own.
Its outputs are not judged (`--no-gate`).

passes  wall seconds of the run less 8 s, which start and compilation may take, over the wall time of one pass: the
        original over 64 samples on two threads with onnxruntime's default optimisation, in batches of 1, 8 or 32,
        whichever is fastest; median of 5. It is timed once before and once after the run, and the mean is taken.
cpu     CPU seconds of the run, of all its threads.
wall    seconds of the run.
peak    largest resident memory of the run, in GB.

Exit code 0 if every model could be compressed, else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onnx_merge.calibration.load import load_calibration
from onnx_merge.io.model_source import load_source
from onnx_merge.runtime.batching import BatchSize, batches
from onnx_merge.runtime.session import Array, Session
from passes.numerics.arrays import has_rows

SAMPLES = 64
BATCHES = (1, 8, 32)
RUNS = 5
THREADS = 2
ALLOWED = 8.0
"""Seconds for start and compilation."""
AMOUNTS = ("--keep", "--target", "--max-drop", "--lossless", "--plan")


@dataclass(frozen=True)
class Row:
    """The cost of one run. ``stages``: seconds by stage, from its report; ``sha256``: of the file written."""

    model: str
    passes: float
    cpu: float
    wall: float
    peak: float
    one_pass: float
    stages: Mapping[str, float]
    sha256: str


def pass_seconds(path: Path, calib: str | None) -> float:
    """Wall seconds of the original over `SAMPLES` samples, at the fastest batch size."""
    source = load_source(path)
    session = Session(source.model, threads=THREADS, deployed=True)
    found = load_calibration(calib, session.inputs, count=SAMPLES, model=source.model)
    count = max(1, len(found))
    rows = np.arange(SAMPLES) % count  # where there are fewer, they are run again
    feeds = {name: array[rows] if has_rows(array) else array for name, array in found.feeds.items()}
    return min(_median(session, feeds, BatchSize(size)) for size in BATCHES)


def _median(session: Session, feeds: Mapping[str, Array], size: BatchSize) -> float:
    fed = [batch for batch, _, _ in batches(feeds, session.inputs, size)]
    session.run(fed[0])
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for batch in fed:
            session.run(batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(path: Path, calib: str | None, options: Sequence[str]) -> Row:
    """The cost of compressing one model.

    Raises
    ------
    RuntimeError: the run failed; with its last message.
    """
    before = pass_seconds(path, calib)
    given = [*options, *(["--calib", calib] if calib else [])]
    given += [] if any(option.startswith(AMOUNTS) for option in options) else ["--keep", "0.6"]
    with tempfile.TemporaryDirectory() as folder:
        out, report, said = (Path(folder, name) for name in ("out.onnx", "report.json", "said.txt"))
        command = [sys.executable, "-m", "onnx_merge", str(path), str(out), "--no-gate", "-q", "--report", str(report)]
        start = time.perf_counter()
        with said.open("wb") as stream:
            run = subprocess.Popen([*command, *given], stdout=stream, stderr=stream)
            _, status, used = os.wait4(run.pid, 0)
        wall = time.perf_counter() - start
        run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode:
            raise RuntimeError(said.read_text().strip().rpartition("\n")[2])
        stages = json.loads(report.read_text())["seconds"]
        sha256 = hashlib.sha256(out.read_bytes()).hexdigest()
    one = (before + pass_seconds(path, calib)) / 2
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    passes = max(0.0, wall - ALLOWED) / one
    return Row(path.stem, passes, used.ru_utime + used.ru_stime, wall, peak, one, stages, sha256)


def main() -> int:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--calib")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sha256", action="store_true", help="print the beginning of the result's hash, too")
    given, options = parser.parse_known_args()
    print(f"{'model':24}{'passes':>8}{'cpu s':>9}{'wall s':>9}{'peak GB':>9}{'a pass s':>10}")
    rows, failed = [], 0
    for path in given.models:
        try:
            row = measure(path, given.calib, options)
        except Exception as error:  # the other models go on
            print(f"{path.stem:24}  {error}", flush=True)
            failed = 1
            continue
        rows.append(row)
        line = f"{row.model[:23]:24}{row.passes:8.1f}{row.cpu:9.1f}{row.wall:9.1f}{row.peak:9.2f}{row.one_pass:10.3f}"
        print(line + (f"  {row.sha256[:20]}" if given.sha256 else ""), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return failed


if __name__ == "__main__":
    sys.exit(main())
