"""Time of the merge on a VGG, beside the Neuron Merging authors' own code, in one run.

    python benchmarks/decomposition.py MODEL.onnx --published DIR [--keep 0.6] [--repeats 5]

MODEL is a chain of Conv and BatchNormalization with a classifier behind it (VGG-16); DIR is a checkout of
friendshipkim/neuron-merging. Both decompose the same weights at the same widths: choose the channels that stay (l1),
find every removed channel's partner, fold the scaling matrices into the next layer. Loading and saving are left out on
both sides, and the two take turns. Needs torch and scikit-learn for the published code.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from onnx_merge.runtime.segment_runner import FOLDING
from passes.axes.channel_groups import channel_groups
from passes.axes.inference import infer
from passes.graph.model import Graph
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner, keep_ratio
from passes.surgery.apply_plan import apply_plans
from passes.transforms.canonicalize import canonicalize
from passes.transforms.fold_batchnorm import fold_batchnorm


def published(model: onnx.ModelProto, keep: float, checkout: Path) -> Callable[[], Any]:
    """The authors' decomposition of the model's weights, ready to run."""
    import torch

    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_: self  # the published code asks for a GPU whatever its options say
    sys.path.insert(0, str(checkout))
    from decompose import Decompose

    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    weights: OrderedDict[str, torch.Tensor] = OrderedDict()
    widths: list[int] = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "BatchNormalization"):
            weights.update((f"feature.{n}", torch.from_numpy(arrays[n].copy())) for n in node.input[1:])
        if node.op_type == "Conv":
            widths.append(math.ceil(keep * arrays[node.input[1]].shape[0]))
        if node.op_type == "Gemm":
            weights[f"classifier.{node.input[1]}"] = torch.from_numpy(arrays[node.input[1]].copy())
            break
    return lambda: Decompose("VGG", OrderedDict(weights), "l1-norm", 0.1, 0.85, "merge", widths, False).main()


def ours(model: onnx.ModelProto, keep: float) -> Callable[[], Any]:
    """Our plan and surgery on the folded graph, ready to run; the classifier's own channels stay."""
    folded = fold_batchnorm(Graph(canonicalize(model, FOLDING), engine=FOLDING))
    typing = infer(Graph(folded.model, engine=FOLDING))
    groups = channel_groups(typing)
    whole = {g.name: "classifier" for g in groups if g.steps[0].flow.record.node.op == "Gemm"}
    settings = PlanSettings(norms=folded.norms)
    return lambda: apply_plans(typing, Planner(typing, settings).plans(groups, whole, keep_ratio(keep)))


def main() -> int:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = onnx.load(args.model)
    rivals = {"published code": published(model, args.keep, args.published), "onnx_merge": ours(model, args.keep)}
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for run in rivals.values():
        run()  # compile and warm up
    for _ in range(args.repeats):
        for name, run in rivals.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:15} {median:8.3f} s")
    print(f"{'ratio':15} {medians['published code'] / medians['onnx_merge']:8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
