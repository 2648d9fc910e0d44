"""Coverage of a folder of models: how much is removed, whether the result is right, and what stays and why.

    python benchmarks/coverage.py FOLDER_OR_FILES... [--keep 0.6] [--only REGEX] [--json OUT.json] [--reasons 3]
                                  [--no-peer] [--peer-simplify] [--peer-timeout 120]

Every channel group keeps ceil(keep x C) channels (method merge, criterion l1, coupled groups too). One row a model:

valid      passes onnx.checker with full_check (without it, where the original fails it too), loads and runs in
           onnxruntime on the CPU, and its outputs have the shapes of the original's and are finite where those are.
float32    distance from the unshrunk twin (see `passes.surgery.apply_plan`): max|a - b| / max|b| over each output, the
           largest, on random inputs; a are the result's values, b the twin's. Exact is 1e-4 or less. If the twin is
           within 1e-2 of the original (a head of zeros, layer scales of 1e-6), the comparison shows nothing. Then it is
           repeated on the model with random values for weights that are all equal, and a line says so.
float64    the same with both models in float64, where float32 is over 1e-4; exact if this is 1e-4 or less.
groups     channel groups found / shrunk / frozen. A group too small to lose a channel at this share is neither.
params,    parameters and multiply-adds left, as `passes.cost.cost` counts them, after / before; before is the
MACs       canonicalised original, for us and for the peer.
plan s     seconds of axis inference and planning, stages "infer" and "plan" of `passes.pipeline`.
rest s     seconds of its other stages: canonicalisation with shape inference, folding, surgery. Neither column has
           loading and checks. The first model's times include loading compiled code.

Below the row are the reasons for frozen groups, the most costly first. Groups with the same reason are taken together,
and names of nodes are left out. The cost is the share of the parameters (BatchNormalization folded) that would go if
all channels of these groups went (see `passes.cost.footprint.Holdings`). For a weight behind a concat, it is the part
for these channels. A weight between groups that are frozen for two reasons counts under both, so shares do not add up.

The peer is `onnxsim.apply_structured_pruning(model, sparsity=1 - keep)`, in a process of its own; with --peer-simplify
on what `onnxsim.simplify` makes of the model, which finds the patterns that the pruning looks for. Its columns are the
same (seconds: the calls alone, without loading and saving). "untouched": nothing was removed. "invalid": not valid as
above. Others: "timeout", "crash". In the medians an untouched model counts as 1, and an invalid one is left out.

Exit code 0 if every model is valid and exact, else 1. A file that cannot be read, or whose model does not run in
onnxruntime, fails with a line that says so.
"""

from __future__ import annotations

if __name__ == "coverage":  # numba asks for PyPI's, and in a script of this folder it would be given this file
    raise ImportError("this is a script, not the coverage of PyPI")

import argparse
import gc
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from coverage_measure import Ours, Outcome, load, measure
from coverage_peer import installed_peer, measure_peer
from coverage_table import Row, columns, details, header, peer_columns, report, summary

from onnx_merge.errors import OnnxMergeError, one_line


def cover(path: Path, width: int, args: argparse.Namespace, peer: str | None) -> Row:
    """Measure one model and print its row, as far as it has come at a time."""
    row = Row(path.stem)
    print(f"{row.model:{width}} ", end="", flush=True)
    try:
        original = load(path)
    except Exception as error:  # our own code may fail on it too; the other models go on
        row.failure = _said(error)
        print(f"FAILED: {row.failure}", flush=True)
        return row
    try:
        row.ours = measure(original, args.keep)
    except Exception as error:  # as above
        row.ours = Ours("crash", _said(error))
    print(columns(row.ours), end="", flush=True)
    if peer is not None:
        try:
            row.peer = measure_peer(original, args.keep, args.peer_simplify, args.peer_timeout)
        except Exception as error:  # a result that cannot be read or counted
            row.peer = Outcome("invalid", _said(error))
        print(" |", peer_columns(row.peer), end="")
    print("".join(f"\n    {line}" for line in details(row, args.reasons)), flush=True)
    return row


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, OnnxMergeError) else one_line(f"{type(error).__name__}: {error}")


def _models(paths: Sequence[Path], only: str) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    return [file for file in files if re.search(only, file.stem)]


def main() -> int:
    """Print the rows and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER_OR_FILES")
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--reasons", type=int, default=3, metavar="N")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-simplify", action="store_true")
    parser.add_argument("--peer-timeout", type=float, default=120, metavar="SECONDS")
    args = parser.parse_args()
    files = _models(args.models, args.only)
    if not files:
        parser.error("no model matches")
    peer = None if args.no_peer else installed_peer()
    if peer is None and not args.no_peer:
        print("onnxsim is not installed (pip install onnxsim): its columns are left out")
    elif peer is not None and args.peer_simplify:
        peer += " after its simplify"
    width = max(len("model"), *(len(file.stem) for file in files))
    print(header(width, peer is not None))
    rows: list[Row] = []
    for path in files:
        rows.append(cover(path, width, args, peer))
        gc.collect()  # graphs refer to themselves; the next model wants the memory
    figures = summary(rows, peer)
    print(report(figures))
    exact = [row.ours is not None and row.ours.exact for row in rows]
    if args.json is not None:
        models = [{**asdict(row), "exact": e} for row, e in zip(rows, exact, strict=True)]
        table = {"keep": args.keep, "summary": figures, "models": models}
        args.json.write_text(json.dumps(table, indent=2, allow_nan=False) + "\n")
    return 0 if all(exact) else 1


if __name__ == "__main__":
    sys.exit(main())
