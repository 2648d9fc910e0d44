"""The methods of the leaderboard: each makes a model for a task. Where channels are removed, equal MACs are left."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from accuracy_methods import ridge_step

from board.tasks import Feeds, Task
from onnx_merge.cli.compress import parse
from onnx_merge.compression.optimize import run
from onnx_merge.config.options import Options
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.runtime.number_formats import convert
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.segment_runner import FOLDING, SegmentRunner
from onnx_merge.runtime.session import Session
from passes.cost.cost import Cost, cost
from passes.graph.model import Graph
from passes.samples.calibration_samples import CalibrationSamples
from passes.transforms.canonicalize import canonicalize

GOAL = ("--keep", "0.8", "--allocation", "uniform", "--align", "1", "--method", "prune", "--calib", "none")
"""What leaves the multiply-adds that all methods leave."""
UNIFORM = ("--allocation", "uniform", "--calib", "none")
TRIES = 10
"""Halvings of the range of onnxsim's sparsity."""
GREATEST_SPARSITY = 0.95
PEER_BATCH = 16
"""Samples in a batch for onnxsim, whose models may have a batch of any size."""


class Maker:
    """Makes and keeps the models of one task. ``folder``: of the made models."""

    def __init__(self, task: Task, folder: Path) -> None:
        self._task, self._folder = task, folder
        folder.mkdir(parents=True, exist_ok=True)

    @functools.cached_property
    def original(self) -> onnx.ModelProto:
        """The model of the task."""
        return onnx.load(self._task.model())

    @functools.cached_property
    def feeds(self) -> Feeds:
        """Samples to calibrate on."""
        return self._task.calibration()

    def made(self, method: str) -> onnx.ModelProto:
        """The model of a method, made unless it has been made before."""
        path = self._folder / f"{method}.onnx"
        if not path.exists():
            onnx.save(METHODS[method](self), path)
        return onnx.load(path)

    def shares(self, model: onnx.ModelProto) -> tuple[float, float]:
        """Shares of the original's parameters and multiply-adds that are left."""
        now, before = _cost(model), _cost(self.original)
        return now.params / before.params, now.macs / before.macs

    @property
    def goal(self) -> float:
        """Share of the multiply-adds to leave."""
        path = self._folder / "goal.json"
        if not path.exists():
            result = run(self.original, None, _options(*GOAL)).result
            path.write_text(json.dumps(result.after.macs / result.before.macs))
        return float(json.loads(path.read_text()))

    def ours(self, *words: str) -> onnx.ModelProto:
        """A run of onnx-merge to the goal, with widths that suit the kernels."""
        return run(self.original, None, _options("--target-macs", f"{self.goal:.6f}", *words)).model

    def pruned(self) -> onnx.ModelProto:
        """Channels of small l1 norm are removed. The widths are kept, for `ridge`."""
        found = run(self.original, None, _options("--target-macs", f"{self.goal:.6f}", *UNIFORM, "--method", "prune"))
        widths = {group.name: group.kept for group in found.result.groups}
        (self._folder / "widths.json").write_text(json.dumps(widths))
        return found.model

    def samples_file(self) -> str:
        """The samples to calibrate on as a file for --calib."""
        path = self._folder / "samples.npz"
        if not path.exists():
            np.savez(path, **self.feeds)
        return str(path)

    def ridge(self) -> onnx.ModelProto:
        """GRAIL's step, with the widths of `pruned`."""
        self.made("prune")
        widths = json.loads((self._folder / "widths.json").read_text())
        samples = CalibrationSamples(self.feeds, True, SegmentRunner(CPU))
        return ridge_step(self.original, _options(), samples, lambda group: widths.get(group.name, group.size))

    def peer(self) -> onnx.ModelProto:
        """onnxsim's structured Wanda pruning on the samples, at the sparsity that leaves as many multiply-adds."""
        import onnxsim

        simple, _ = onnxsim.simplify(self.original)  # it finds more of the patterns that it prunes

        def pruned(sparsity: float, batches: list[dict[str, np.ndarray]]) -> onnx.ModelProto:
            return onnxsim.apply_structured_wanda_pruning(simple, batches, sparsity=sparsity)

        def left(sparsity: float) -> float:
            return self.shares(pruned(sparsity, self.batches(1)[:1]))[1]  # widths do not depend on the samples

        least = left(GREATEST_SPARSITY)
        if least > self.goal:
            at = f"at sparsity {GREATEST_SPARSITY} its result has {least:.3f} of the multiply-adds"
            raise ValueError(f"onnxsim finds too few layers that it can prune: {at}, and {self.goal:.3f} is wanted")
        low, high = 0.0, GREATEST_SPARSITY
        for _ in range(TRIES):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) > self.goal else (low, middle)
        return pruned(high, self.batches())

    def tuned_peer(self) -> onnx.ModelProto:
        """And its `apply_pruning_finetune`, ridge regression of the layers that it knows, on the same samples."""
        import onnxsim

        simple, _ = onnxsim.simplify(self.original)
        return onnxsim.apply_pruning_finetune(simple, self.made("onnxsim"), calibration_data=self.batches())

    def distilled_peer(self) -> onnx.ModelProto:
        """And its `apply_block_finetune_all_blocks`, which trains blocks of MatMul and Gemm, on the same samples."""
        import onnxsim

        simple, _ = onnxsim.simplify(self.original)
        tuned = self.made("onnxsim-tuned")
        return onnxsim.apply_block_finetune_all_blocks(simple, tuned, calibration_data=self.batches())[0]

    def batches(self, size: int = PEER_BATCH) -> list[dict[str, np.ndarray]]:
        """The samples in batches of ``size``."""
        count = len(next(iter(self.feeds.values())))
        starts = range(0, count, size)
        return [{name: array[k : k + size] for name, array in self.feeds.items()} for k in starts]

    def converted(self, number_format: str, source: str | None = None) -> onnx.ModelProto:
        """The original, or the result of another method, in another number format."""
        model = self.original if source is None else self.made(source)
        return convert(model, number_format, self.feeds, Session(model).inputs)


METHODS: dict[str, Callable[[Maker], onnx.ModelProto]] = {
    "original": lambda maker: maker.original,
    "prune": Maker.pruned,
    "merge": lambda maker: maker.ours(*UNIFORM, "--method", "merge"),
    "reprune": lambda maker: maker.ours(*UNIFORM, "--method", "merge", "--select", "reprune"),
    "ridge": Maker.ridge,
    "onnxsim": Maker.peer,
    "onnxsim-tuned": Maker.tuned_peer,
    "onnxsim-distilled": Maker.distilled_peer,
    "ours-no-data": lambda maker: maker.ours("--calib", "synthetic"),
    "ours": lambda maker: maker.ours("--calib", maker.samples_file()),
    "int8": lambda maker: maker.converted("int8"),
    "int8-dynamic": lambda maker: maker.converted("int8-dynamic"),
    "fp16": lambda maker: maker.converted("fp16"),
    "ours-int8": lambda maker: maker.converted("int8", "ours"),
    "ours-int8-dynamic": lambda maker: maker.converted("int8-dynamic", "ours"),
    "ours-fp16": lambda maker: maker.converted("fp16", "ours"),
}
"""Name -> what makes the model. Those of a number format keep the multiply-adds of what they convert."""
CONVERTED = {"int8": "original", "int8-dynamic": "original", "fp16": "original"}
CONVERTED |= {"ours-int8": "ours", "ours-int8-dynamic": "ours", "ours-fp16": "ours"}
"""Method of a number format -> method whose model it converts."""


def _options(*words: str) -> Options:
    return parse([*words, "--no-gate", "--unverified", "--provider", "cpu"])[1]


def _cost(model: onnx.ModelProto) -> Cost:
    return cost(Graph(canonicalize(model, FOLDING), (), RunObserver()))
