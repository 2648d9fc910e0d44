"""Cost of a reconstruction: time in onnxruntime by purpose, in forward passes of the original, and other time.

    python benchmarks/reconstruction_cost.py MODEL.onnx [--keep 0.5] [--calib FILE] [--calib-samples N] [--exclude RE]

Every group keeps the same share, residual streams stay whole. A forward pass is one of the original over the same
samples, in the same batches. The rows: the original and the compressed model, run segment by segment; second moments of
the inputs and targets of layers; forward and backward passes of layer pairs (the solver's steps); whole models, as
checks run them. Loading sessions is included. The memory is the process's peak.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

import onnx_merge.compression.job
from onnx_merge import optimize
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.segment_runner import SegmentRunner
from passes.graph.model import Array
from passes.interface.engine import Loaded
from passes.layer_pairs.layer_pair_model import PAIR
from passes.statistics.moments import MOMENTS
from passes.statistics.segmented_execution import SEGMENT

PURPOSES = {SEGMENT: "both models, in pieces", MOMENTS: "moments", PAIR: "layer pairs"}
seconds: Counter[str] = Counter()
fed: list[dict[str, Array]] = []


@dataclass(frozen=True)
class Timed(SegmentRunner):
    """Counts seconds by the name of the model."""

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        start = time.perf_counter()
        run = super().__call__(model)
        seconds[model.graph.name] += time.perf_counter() - start

        def timed(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            start = time.perf_counter()
            found = run(feeds)
            seconds[model.graph.name] += time.perf_counter() - start
            return found

        return timed


class Seen(onnx_merge.compression.job.Compressor):
    """Remembers the batches that go through."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        fed.extend(map(dict, self.variants.feeds if self.variants else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--calib")
    parser.add_argument("--calib-samples", type=int)
    parser.add_argument("--exclude", nargs="+", default=())
    given = parser.parse_args()
    onnx_merge.compression.job.SegmentRunner, onnx_merge.compression.job.Compressor = Timed, Seen  # type: ignore[misc]
    options = {name: value for name, value in vars(given).items() if value is not None and name != "model"}
    start = time.perf_counter()
    _, result = optimize(given.model, allocation="uniform", coupled=False, **options)
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    run = SegmentRunner(available_provider("auto"))(onnx.load(given.model))
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        for feed in fed:
            run(feed)
        passes.append(time.perf_counter() - start)
    one = sorted(passes)[1]
    samples = sum(len(next(iter(feed.values()))) for feed in fed)
    print(f"{samples} samples, a forward pass {one:.2f} s; in all {total:.1f} s, {peak / 1e9:.2f} GB")
    for name, elapsed in seconds.most_common():
        print(f"{PURPOSES.get(name, 'whole models'):24}{elapsed:8.2f} s{elapsed / one:7.1f} passes")
    print(f"{'outside onnxruntime':24}{total - sum(seconds.values()):8.2f} s")
    print(*result.notes, sep="\n")


if __name__ == "__main__":
    main()
