"""Accuracy of each method over the multiply-adds that it leaves.

    python benchmarks/accuracy.py MODEL.onnx --labels TEST.npz [--keep 0.8 0.6 0.4] [--calib SAMPLES] [--only REGEX]
                                  [--latency BATCH] [--json OUT.json] [--plot OUT.png] [options of onnx-merge]

TEST.npz holds the model's input under its name, ready to feed, and `labels`. Further options (`--no-coupled`,
`--exclude REGEX`, ...) go to every run of onnx-merge. One line a result: method, keep, parameters and multiply-adds
left, accuracy, seconds, and with --latency the latency left, on one thread, the original and the result in turns.
`benchmarks/draw_accuracy.py` draws what --json wrote.

prune               the l1 criterion alone
merge               Neuron Merging: l1, removed channels go to the most similar kept one
merge reprune       the same, kept channels being REPrune's representatives
ridge Z             GRAIL's step: on the original's activations, ridge from the kept to all channels, then into the
                    next layer
uniform synthetic   reconstruction without data, every group keeping the same share
auto synthetic      the default: as many multiply-adds, spread over the groups
uniform real        as uniform synthetic, with the samples of --calib
auto real           as auto synthetic, with the samples of --calib
onnxsim             simplify, then apply_structured_pruning, at the least sparsity with no more multiply-adds than
                    `prune`
onnxsim + tune      and apply_pruning_finetune on the same samples

`ridge Z` and `onnxsim + tune` see the samples of --calib, or synthetic ones without it. onnxsim is left out if it is
not installed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from accuracy_methods import Bench, methods, peers
from draw_accuracy import draw

from onnx_merge import OnnxMergeError
from onnx_merge.report.environment import environment


@dataclass(frozen=True)
class Row:
    """A result: shares of parameters and multiply-adds left, accuracy in percent."""

    method: str
    keep: float
    params: float
    macs: float
    accuracy: float
    seconds: float
    latency: float | None = None
    """Share of the original's, with --latency."""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.8, 0.6, 0.4])
    parser.add_argument("--calib")
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--latency", type=int, metavar="BATCH", help="measure it with so many samples in a run")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    args, rest = parser.parse_known_args()
    bench = Bench(onnx.load(args.model), args.labels, args.calib, rest)
    print(f"{'method':17} {'keep':>5} {'params':>7} {'MACs':>7} {'accuracy':>9} {'seconds':>8}")
    print(f"{'original':17} {1:5.2f} {1:7.3f} {1:7.3f} {bench.before:8.2f}%")
    rows: list[Row] = []
    for keep in args.keep:
        for name, method in methods(bench, real=args.calib is not None):
            if not re.search(args.only, name):
                continue
            start = time.perf_counter()
            model = method(keep)
            seconds = time.perf_counter() - start
            latency = bench.latency(model, args.latency) if args.latency else None
            row = Row(name, keep, *bench.left(model), bench.accuracy(model), seconds, latency)
            shares = f"{keep:5.2f} {row.params:7.3f} {row.macs:7.3f}"
            more = "" if latency is None else f" {latency:8.3f}"
            print(f"{name:17} {shares} {row.accuracy:8.2f}% {seconds:8.1f}{more}", flush=True)
            rows.append(row)
    if args.json:
        table = {
            "model": args.model.name,
            "samples": args.labels.name,
            "calib": args.calib,
            "options": rest,
            "batch": args.latency,
            "environment": {**environment(), **peers()},
            "before": bench.before,
            "rows": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    if args.plot:
        draw(bench.before, [asdict(row) for row in rows], args.plot)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OnnxMergeError as error:
        sys.exit(str(error))
