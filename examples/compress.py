"""Compresses a model from Python, and reads what came of it: figures, verdict, groups, report.

python examples/compress.py models/digits_cnn.onnx models/digits_calib.npz smaller.onnx
"""

from __future__ import annotations

import sys

import numpy as np

from onnx_merge import FidelityError, NotCompressibleError, optimize


def main(source: str, samples: str, target: str) -> int:
    """Compress ``source`` to 0.6 of its multiply-adds on the arrays in ``samples``; return the exit code."""
    with np.load(samples) as file:
        calib = {name: file[name] for name in file.files}  # arrays by input name; or a list of such feeds, or a path
    try:
        model, result = optimize(source, calib=calib, target_macs=0.6)
    except FidelityError as error:
        print(f"too much was lost: {error}")
        return 3
    except NotCompressibleError as error:
        print(f"nothing can be removed: {error}")
        return 4
    before, after = result.before, result.after
    print(f"parameters {before.params:,} -> {after.params:,}, MACs {before.macs:,} -> {after.macs:,}")
    if result.fidelity is not None:
        print(f"{result.fidelity.verdict}: {result.fidelity.why}")
    for group in result.groups:
        print(f"{group.name}: {group.size} -> {group.kept} ({group.reason or group.method})")
    print(f"{len(model.graph.node)} nodes, written to", result.save(target, force=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
