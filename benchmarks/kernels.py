"""Time and memory of the kernels over the number of neurons, beside scikit-learn, faiss and a plain float32 product.

    python benchmarks/kernels.py [--neurons 64 256 1024 4096 16384] [--features 576] [--runs 5] [--json OUT.json]

Rows are normal numbers, half of the neurons stay. Medians of --runs in milliseconds, in turns; what takes longer than
a minute is left out at larger sizes. The whole merge of a network beside the authors' code: `decomposition.py`.

norms      Euclidean norms of all rows; beside numpy.linalg.norm
match      the best kept partner of every removed row; beside the float32 product of the same rows, scikit-learn's
           pairwise cosine distances with argmin, and faiss's search for inner products, if it is installed
median     sums of the distances to all rows (geometric median); beside scikit-learn's pairwise distances
subset     greedy selection of half of the columns, from a covariance; beside the product of two such matrices

memory: bytes allocated by NumPy at the peak of `match`, as a multiple of those of the rows.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passes.numerics.norms import median_distances, row_norms
from passes.numerics.similarity import best_match
from passes.numerics.subset import choose_columns
from passes.numerics.tuning import NUMERICS

TOO_LONG = 60.0
"""Seconds of a run after which larger sizes are left out."""
Calls = dict[str, Callable[[], Any]]


def calls(neurons: int, features: int) -> dict[str, Calls]:
    """What is timed: kernel -> name -> function."""
    from sklearn.metrics import pairwise_distances

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((neurons, features), np.float32)
    kept, removed = np.arange(0, neurons, 2), np.arange(1, neurons, 2)
    own, others = rows[removed], rows[kept]
    none = np.zeros((neurons, 0))
    found: dict[str, Calls] = {
        "norms": {"ours": lambda: row_norms(rows), "numpy": lambda: np.linalg.norm(rows, axis=1)},
        "match": {
            "ours": lambda: best_match(rows, none, kept, removed, 1.0),
            "product": lambda: own @ others.T,
            "scikit-learn": lambda: pairwise_distances(own, others, metric="cosine").argmin(axis=1),
        },
        "median": {
            "ours": lambda: median_distances(rows),
            "scikit-learn": lambda: pairwise_distances(rows).sum(axis=1),
        },
    }
    if importlib.util.find_spec("faiss"):
        found["match"]["faiss"] = functools.partial(_faiss, own, others)
    if neurons <= NUMERICS.subset.most_greedy:
        covariance = (rows @ rows.T).astype(np.float64) / features
        every, weight = np.arange(neurons), np.eye(neurons)
        found["subset"] = {
            "ours": lambda: choose_columns(covariance, weight, every, neurons // 2),
            "product": lambda: covariance @ covariance,
        }
    return found


def _faiss(own: NDArray[np.float32], others: NDArray[np.float32]) -> Any:
    import faiss

    unit = [np.ascontiguousarray(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (own, others)]
    index = faiss.IndexFlatIP(others.shape[1])
    index.add(unit[1])
    return index.search(unit[0], 1)


def milliseconds(functions: Calls, runs: int) -> dict[str, float]:
    """Median of each, measured in turns after a first run that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn or time.perf_counter() - start > TOO_LONG / runs:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def peak(function: Callable[[], Any]) -> int:
    """Bytes that NumPy has allocated at the most."""
    tracemalloc.start()
    function()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main() -> None:
    """Print a line for each kernel and number of neurons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, nargs="+", default=[64, 256, 1024, 4096, 16384])
    parser.add_argument("--features", type=int, default=576)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    table: list[dict[str, Any]] = []
    slow: set[tuple[str, str]] = set()
    for neurons in given.neurons:
        for kernel, functions in calls(neurons, given.features).items():
            some = {name: function for name, function in functions.items() if (kernel, name) not in slow}
            found = milliseconds(some, given.runs)
            slow |= {(kernel, name) for name, ms in found.items() if ms > 1000 * TOO_LONG / 16}
            row: dict[str, Any] = {"kernel": kernel, "neurons": neurons, "ms": found}
            if kernel == "match":
                row["memory"] = peak(functions["ours"]) / (4 * neurons * given.features)
            table.append(row)
            cells = "".join(f"{name:>14} {ms:10.3f}" for name, ms in found.items())
            memory = f"  memory {row['memory']:.2f}" if "memory" in row else ""
            print(f"{kernel:8}{neurons:7}{cells}{memory}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
