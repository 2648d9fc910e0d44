"""Accuracy that each method keeps, by share of channels kept.

    python benchmarks/accuracy.py MODEL.onnx --labels TEST.npz [--keep 0.9 0.8 0.6 0.4] [options of onnx-merge]

TEST.npz holds the model's input under its name, ready to feed, and `labels`. Options after these (`--no-coupled`,
`--exclude REGEX`, `--calib SAMPLES` for real samples instead of synthetic ones, ...) go to every run. One line a run:
method, criterion, keep, parameters left, MACs left, accuracy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx

from onnx_merge import OnnxMergeError
from onnx_merge.cli import parse
from onnx_merge.run import run

RUNS = (
    ("prune", "l1"),
    ("merge", "l1"),
    ("merge", "l2"),
    ("merge", "gm"),
    ("merge", "reprune"),
    ("merge", "reprune-kernel"),
    ("reconstruct", "l1"),
    ("reconstruct", "auto"),
)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.9, 0.8, 0.6, 0.4])
    args, rest = parser.parse_known_args()
    model = onnx.load(args.model)
    print(f"{'method':11} {'select':14} {'keep':>5} {'params':>7} {'MACs':>7} {'accuracy':>9}")
    for keep in args.keep:
        for method, select in RUNS:
            given = ["--keep", str(keep), "--method", method, "--select", select, "--labels", str(args.labels), *rest]
            _, options, _ = parse(given)
            result = run(model, None, options).result
            params, macs = result.after.params / result.before.params, result.after.macs / result.before.macs
            after = result.accuracy.after if result.accuracy else float("nan")
            print(f"{method:11} {select:14} {keep:5.2f} {params:7.3f} {macs:7.3f} {after:8.2f}%", flush=True)
        if result.accuracy:
            print(f"{'original':32} {1:7.3f} {1:7.3f} {result.accuracy.before:8.2f}%")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OnnxMergeError as error:
        sys.exit(str(error))
