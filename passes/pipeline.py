"""Runs the whole pipeline: normalise, fold, infer, then observe, allocate, plan, solve and shrink."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from passes.allocation.allocator import Allocation
from passes.analysis.analyse import analyse
from passes.analysis.analysis_passes import analysis_passes
from passes.analysis.known import Analysis
from passes.compress.bodies import body_settings, cost_of_bodies, merged_inside
from passes.compress.compressed import Compressed, CompressedBody
from passes.compress.compression_passes import (
    Allocate,
    MeasuredLosses,
    Observe,
    Plan,
    PlanLossless,
    Planned,
    Shrink,
    Solve,
    Solved,
)
from passes.compress.custom_passes import with_custom
from passes.compress.planners import Planners
from passes.compress.scope import GroupScope, group_scope
from passes.interface.engine import Engine
from passes.interface.model_pass import Pass, PassResult, WorkingModel
from passes.interface.runner import Progress, StageTimer, run_passes, silent
from passes.numerics.arrays import samples_in
from passes.reconstruction.reconstruct import Attempt, attempts
from passes.reconstruction.weight_variant import WeightVariant
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.inference import Assignment, Observer
from passes.streams.identity_layers import drop_identity_layers
from passes.surgery.apply_plan import Solution
from passes.transforms.narrow_storage import store_narrow

__all__ = ["Compressed", "Compressor", "Progress", "analysis_passes", "compress", "compression_passes", "silent"]


def compression_passes(
    settings: CompressSettings,
    variant: WeightVariant | None = None,
    planners: Planners | None = None,
    beside: int = 0,
) -> list[Pass]:
    """The passes from channel groups to plans and new weights, with registered ones among them (see
    `passes.compress.custom_passes`). `Shrink` applies these.

    ``variant``: the weights that samples run through, None to go by weights alone; ``planners``, ``beside``: see
    `Allocate`.
    """
    passes: list[Pass]
    if settings.lossless:
        passes = [PlanLossless(settings, planners)]
    elif variant is None:
        passes = [Allocate(settings, None, planners, beside), Plan()]
    else:
        passes = [Observe(settings, variant), Allocate(settings, variant, planners, beside), Plan()]
        passes += [] if settings.draft else [Solve(variant, settings.effort)]
    return with_custom(passes, first="infer")


class Compressor:
    """Compresses one model any number of times; the analysis is done once.

    ``model`` is not changed. ``samples``: for method ``reconstruct``, which merges without them; ``observer``: finds
    shapes by running the model at the ``assignments``, concrete shapes of its inputs; ``engine``: runs segments that
    are constant or depend on shapes alone; ``progress``: called with the name of each stage; ``analysis``: of the same
    model, None to analyse it here; ``tuning``: of all passes.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        assignments: Sequence[Assignment] = (),
        observer: Observer | None = None,
        progress: Progress = silent,
        samples: CalibrationSamples | None = None,
        engine: Engine | None = None,
        analysis: Analysis | None = None,
        tuning: Tuning = TUNING,
    ) -> None:
        self._model, self._stage = model, StageTimer(progress)
        self.analysis = analysis or analyse(model, assignments, observer, self._stage, engine)
        before, typing = self.analysis.before, self.analysis.typing
        self.variants = WeightVariants(before, typing, samples, tuning) if samples is not None else None
        self.planners = Planners(self.analysis, tuning)
        self._inside = [
            (one.body, Compressor(one.body.model, analysis=one.analysis, tuning=tuning)) for one in self.analysis.inside
        ]

    @property
    def fitted(self) -> int:
        """Number of samples that layers are fitted to, including mirror images; 0 if there are too few to fit."""
        feeds = [] if self.variants is None else self.variants.feeds
        return sum(map(samples_in, feeds)) if len(feeds) > 1 else 0

    def prepare(self, settings: CompressSettings) -> None:
        """Compute what does not depend on the share to keep: channel statistics, rankings and measured losses.

        Raises
        ------
        PassError: an expression of the settings matches no layer.
        """
        scope = group_scope(self.analysis, settings)
        variants = self._variants(settings, scope)
        first = next(iter(variants), None) if variants is not None else None
        allocator = self.planners.allocator(settings, first, scope)
        with self._stage("allocate"):
            allocator.prepare()
        with self._stage("plan"):
            for group in scope.live:
                allocator.planner.plan(group, group.size - 1)
                if settings.method == "reconstruct" and settings.select == "auto":
                    allocator.planner.ranking(group)  # the whole ranking; rankings of fewer channels are its beginning

    def compress(self, settings: CompressSettings, outer: GroupScope | None = None) -> Compressed:
        """A compressed copy, unchanged if no channel can be removed. ``outer``: the scope of the enclosing model, if
        this model is a control-flow body.

        Raises
        ------
        PassError: an expression of the settings matches no layer.
        TargetError: the target cannot be met.
        """
        scope = group_scope(self.analysis, settings, outer)
        inside = self._compressed_bodies(settings, scope)
        planned = self._planned(settings, scope, cost_of_bodies(self.analysis, settings, scope, inside))
        shrunk = run_passes(with_custom([Shrink(inside)]), planned.model, self._stage)
        solved = shrunk.model.get(Solved)
        measured = shrunk.model.get(MeasuredLosses)
        model = shrunk.model.proto if shrunk.changed else _copy(self._model)
        drop_identity_layers(model, self.analysis.typing.identities)
        return Compressed(
            store_narrow(model) if outer is None else model,
            self.analysis.before,
            self.analysis.typing,
            shrunk.model[Planned].plans,
            {k: reason for part, _ in self.analysis.parts() for k, reason in part.unfolded.items()},
            dict(self._stage.seconds),
            solved.solution if solved else Solution(),
            shrunk.model.get(Allocation),
            (*planned.notes, *shrunk.notes, *merged_inside(settings, inside)),
            tuple(inside),
            measured=dict(measured.points) if measured else {},
        )

    def _planned(self, settings: CompressSettings, scope: GroupScope, beside: int) -> PassResult:
        """For each variant of the weights: plan, solve, stop if the solution holds."""
        variants, tried, notes = self._variants(settings, scope), [Attempt(None)], tuple[str, ...]()
        if variants is not None:
            with self._stage("reconstruct"):
                tried = attempts(variants)
            notes = variants.notes
        model = WorkingModel(self._model).knowing(self.analysis, scope)
        for attempt in tried:
            notes += () if settings.draft else attempt.notes
            passes = compression_passes(settings, attempt.variant, self.planners, beside)
            result = run_passes(passes, model, self._stage)
            solved = result.model.get(Solved)
            if solved is None or solved.holds:
                break
        return result._replace(notes=notes + result.notes)

    def _variants(self, settings: CompressSettings, scope: GroupScope) -> WeightVariants | None:
        return self.variants if settings.method == "reconstruct" and scope.loses else None

    def _compressed_bodies(self, settings: CompressSettings, scope: GroupScope) -> list[CompressedBody]:
        inner = body_settings(self.analysis, settings, scope) if self._inside else settings
        return [CompressedBody(body, compressor.compress(inner, scope)) for body, compressor in self._inside]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def compress(
    model: onnx.ModelProto,
    settings: CompressSettings,
    observer: Observer | None = None,
    progress: Progress = silent,
    samples: CalibrationSamples | None = None,
    engine: Engine | None = None,
    tuning: Tuning = TUNING,
) -> Compressed:
    """Compress ``model`` once; see `Compressor`."""
    compressor = Compressor(model, settings.assignments, observer, progress, samples, engine, tuning=tuning)
    return compressor.compress(settings)
