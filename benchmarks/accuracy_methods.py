"""The methods that `accuracy.py` compares: each gives a model for a share of channels to keep."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import onnx

from onnx_merge.cli.compress import parse
from onnx_merge.compression.optimize import run
from onnx_merge.config.options import Options
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.latency.measure import compare_latency
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.segment_runner import FOLDING, SegmentRunner
from onnx_merge.runtime.session import Session
from passes.analysis.analyse import analyse
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner, Width, keep_ratio
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings, exclusions
from passes.surgery.apply_plan import apply_plans
from passes.transforms.canonicalize import canonicalize

Method = Callable[[float], onnx.ModelProto]
"""Share of channels to keep -> model."""
TRIES = 12
"""Halvings of the sparsity's range."""
SECONDS = 4.0
"""For the runs of one result and of the original."""
UNIFORM = ("--allocation", "uniform")


class Bench:
    """``model`` with what it is measured on; ``options``: of onnx-merge, for every run."""

    def __init__(self, model: onnx.ModelProto, labels: Path, calib: str | None, options: Sequence[str]) -> None:
        self.model, self.calib, self._given = model, calib, [*options, "--labels", str(labels)]
        self._provider = available_provider("cpu")
        self._comparison = comparison_with(model, self.options(0.5), self._provider)
        self._cost = cost(_graph(model))
        self.before = self.accuracy(model)

    def options(self, keep: float, *more: str) -> Options:
        """Options of a run."""
        return parse(["--keep", str(keep), *self._given, *more])[1]

    def ours(self, *more: str) -> Method:
        """A method of onnx-merge."""
        return lambda keep: run(self.model, None, self.options(keep, *more)).model

    def accuracy(self, model: onnx.ModelProto) -> float:
        """In percent."""
        found = self._comparison.accuracy(Session(model, self._provider))
        return found.after if found else float("nan")

    def left(self, model: onnx.ModelProto) -> tuple[float, float]:
        """Shares of parameters and multiply-adds."""
        now = cost(_graph(model))
        return now.params / self._cost.params, now.macs / self._cost.macs

    def latency(self, model: onnx.ModelProto, batch: int) -> float:
        """Share of the original's latency, on one thread."""
        feeds = random_feeds(Session(self.model, self._provider).inputs, batch, upper=index_bounds(self.model))
        return compare_latency([self.model, model], feeds, self._provider, 1, seconds=SECONDS).models[1].ratio

    def samples(self) -> CalibrationSamples:
        """What --calib gives, or synthetic samples."""
        options = self.options(0.5, "--calib", self.calib or "synthetic")
        found = comparison_with(self.model, options, self._provider).samples.fitted()
        assert found is not None  # --calib is not none
        return CalibrationSamples(found.feeds, found.real, SegmentRunner(self._provider))

    def ridge(self, keep: float) -> onnx.ModelProto:
        """GRAIL's step."""
        return ridge_step(self.model, self.options(keep), self.samples(), keep_ratio(keep))

    def peer(self, tuned: bool) -> Method:
        """onnxsim's pruning, at the multiply-adds that ours leaves."""
        import onnxsim

        simple, _ = onnxsim.simplify(self.model)  # it finds more of the patterns that it prunes

        def pruned(sparsity: float) -> onnx.ModelProto:
            return onnxsim.apply_structured_pruning(simple, sparsity=sparsity)

        def method(keep: float) -> onnx.ModelProto:
            goal = self.left(self.ours(*UNIFORM, "--method", "prune")(keep))[1]
            low, high = 0.0, 0.99
            for _ in range(TRIES):
                middle = (low + high) / 2
                low, high = (middle, high) if self.left(pruned(middle))[1] > goal else (low, middle)
            found = pruned(high)
            if not tuned:
                return found
            analysis = analyse(self.model, (), RunObserver(), lambda stage: nullcontext())
            feeds = WeightVariants(analysis.before, analysis.typing, self.samples()).feeds
            return onnxsim.apply_pruning_finetune(simple, found, calibration_data=feeds)

        return method


def ridge_step(model: onnx.ModelProto, options: Options, samples: CalibrationSamples, width: Width) -> onnx.ModelProto:
    """GRAIL's step: on the original's activations, ridge regression from the kept to all channels of each group, then
    into the next layer. ``width``: channels that a group keeps."""
    settings = CompressSettings(exclude=options.exclude, coupled=options.coupled)
    analysis = analyse(model, (), RunObserver(), lambda stage: nullcontext(), FOLDING)
    typing, groups = analysis.typing, analysis.groups
    excluded = exclusions(groups, settings)
    *_, own = WeightVariants(analysis.before, typing, samples)
    statistics = own.channel_statistics([g for g in groups if not g.frozen and g.name not in excluded])
    plan = PlanSettings("reconstruct", "auto", norms=analysis.folded.norms, statistics=statistics)
    return apply_plans(typing, Planner(typing, plan).plans(groups, excluded, width))


def methods(bench: Bench, real: bool) -> Iterator[tuple[str, Method]]:
    """Names and methods; ``real``: whether there are samples."""
    yield "prune", bench.ours(*UNIFORM, "--method", "prune")
    yield "merge", bench.ours(*UNIFORM, "--method", "merge")
    yield "merge reprune", bench.ours(*UNIFORM, "--method", "merge", "--select", "reprune")
    yield "ridge Z", bench.ridge
    yield "uniform synthetic", bench.ours(*UNIFORM, "--calib", "synthetic")
    yield "auto synthetic", bench.ours("--calib", "synthetic")
    if real:
        yield "uniform real", bench.ours(*UNIFORM, "--calib", str(bench.calib))
        yield "auto real", bench.ours("--calib", str(bench.calib))
    if importlib.util.find_spec("onnxsim"):
        yield "onnxsim", bench.peer(tuned=False)
        yield "onnxsim + tune", bench.peer(tuned=True)


def peers() -> dict[str, str]:
    """Versions of what ours is compared with."""
    return {"onnxsim": importlib.metadata.version("onnxsim")} if importlib.util.find_spec("onnxsim") else {}


def _graph(model: onnx.ModelProto) -> Graph:
    return Graph(canonicalize(model, FOLDING), (), RunObserver())
