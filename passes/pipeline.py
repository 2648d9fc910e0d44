"""The way of a model through the passes: normalise, fold, infer, group, observe, allocate, plan, solve, shrink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import onnx

from passes.allocation.allocator import Allocation, Allocator
from passes.allocation.losses import Losses
from passes.allocation.subgraph_budget import Shares, parameters_of
from passes.analysis.analyse import Analysis, analyse
from passes.analysis.ungrouped import first_quantised
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.graph.model import Graph
from passes.interface.engine import Engine
from passes.planning.plan import GroupPlan, PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.reconstruct import Reconstruction, reconstruct
from passes.reconstruction.weight_variants import CalibrationSamples, WeightVariant, WeightVariants
from passes.settings.compress import CompressSettings, exclusions, own_ratios
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.inference import Assignment, Observer
from passes.statistics.batchnorm_recalibration import samples_in
from passes.surgery.apply_plan import Solution, apply_plans, unshrunk_twin
from passes.transforms.subgraphs import Body, rebuilt

Progress = Callable[[str], None]


def silent(stage: str) -> None:
    """Progress that nobody sees."""


@dataclass
class Compressed:
    """``model``: the result; ``typing`` and ``plans``: how it came about; ``unfolded``: BatchNormalization left, with
    reasons; ``allocation``: how a budget was spread; ``seconds``: by stage."""

    model: onnx.ModelProto
    before: Graph
    typing: Typing
    plans: list[GroupPlan]
    unfolded: dict[str, str]
    seconds: dict[str, float]
    solution: Solution = field(default_factory=Solution)
    allocation: Allocation | None = None
    notes: tuple[str, ...] = ()
    inside: tuple[CompressedBody, ...] = ()
    """What became of control-flow bodies; ``plans`` are of the model outside them."""

    @property
    def every_plan(self) -> list[GroupPlan]:
        """The plans of the model and of all bodies in it."""
        return [*self.plans, *(plan for one in self.inside for plan in one.compressed.every_plan)]

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes."""
        return any(plan.shrinks for plan in self.every_plan)

    @property
    def quantised(self) -> str | None:
        """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
        return first_quantised(self.typing)

    def twin(self) -> onnx.ModelProto:
        """The same function at the original shapes (see `passes.surgery.apply_plan`)."""
        graph = self.typing.graph
        twins = [(one.body, one.put_back(one.compressed.twin(), graph)) for one in self.inside if one.shrinks]
        return unshrunk_twin(self.typing, self.plans, self.solution, twins)


@dataclass(frozen=True)
class CompressedBody:
    """A control-flow body, and what became of it."""

    body: Body
    compressed: Compressed

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes from it."""
        return self.compressed.shrinks

    def put_back(self, model: onnx.ModelProto, graph: Graph) -> onnx.GraphProto:
        """``model``, what became of the body, as a body of ``graph``."""
        attributes = graph.model.graph.node[self.body.node.index].attribute
        original = next(a.g for a in attributes if a.name == self.body.attribute)
        return rebuilt(self.body, original, model, graph)


@dataclass(frozen=True)
class _GroupScope:
    """``excluded``: group name -> why it stays whole; ``live``: groups that may shrink; ``own``: group name -> the
    share that the user gave it alone; ``views``: of samples, where layers are to be solved on them."""

    excluded: Mapping[str, str]
    live: list[ChannelGroup]
    own: Mapping[str, float]
    views: WeightVariants | None


class Compressor:
    """A model about which everything is found out once, whatever number of results is made of it.

    ``model`` stays as it is. ``samples``: what method ``reconstruct`` looks at; without them it merges. ``observer``
    finds shapes by running the model at the ``assignments``, concrete shapes of its inputs; ``engine`` runs pieces of
    it that are constant, or depend on shapes alone; ``progress`` is told the stage; ``analysis``: of the same model, if
    it is there already; ``tuning``: of all passes.
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
        self._model, self._progress, self._tuning = model, progress, tuning
        self._seconds: dict[str, float] = {}
        self.analysis = analysis or analyse(model, assignments, observer, self._stage, engine)
        self._views = (
            WeightVariants(self.analysis.before, self.analysis.typing, samples, tuning) if samples is not None else None
        )
        self._inside = [
            (one.body, Compressor(one.body.model, analysis=one.analysis, tuning=tuning)) for one in self.analysis.inside
        ]
        self._planners: dict[tuple[object, ...], Planner] = {}
        self._losses: dict[Planner, Losses] = {}

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process: the terminal that progress is shown on stays here."""
        return {**vars(self), "_progress": silent, "_seconds": {}}

    @property
    def fitted(self) -> int:
        """Samples that layers are fitted to, mirror images among them; 0 where they are too few to fit to."""
        feeds = [] if self._views is None else self._views.feeds
        return sum(map(samples_in, feeds)) if len(feeds) > 1 else 0

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._progress(name)
        start = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def prepare(self, settings: CompressSettings) -> None:
        """Find what results with these settings rest on, whatever share they keep: what samples show, the order of
        channels, measured losses.

        Raises
        ------
        PassError: an expression of the settings matches no layer.
        """
        scope = self._scope(settings)
        view = next(iter(scope.views), None) if scope.views is not None else None
        allocator = self._allocator(settings, view, scope)
        with self._stage("allocate"):
            allocator.prepare()
        with self._stage("plan"):
            for group in scope.live:
                allocator.planner.plan(group, group.size - 1)
                if settings.method == "reconstruct" and settings.select == "auto":
                    allocator.planner.ranking(group)  # all of it: that of fewer channels is its beginning

    def compress(self, settings: CompressSettings) -> Compressed:
        """A compressed copy; where no channel goes, an unchanged one.

        Raises
        ------
        PassError: an expression of the settings matches no layer.
        TargetError: the target cannot be met.
        """
        return self._compress(settings, *self._named(settings))

    def _named(self, settings: CompressSettings) -> tuple[dict[str, str], dict[str, float]]:
        """Groups to leave whole, with the reasons, and the shares of those that have one of their own."""
        groups = self.analysis.every_group
        return exclusions(groups, settings), own_ratios(groups, settings)

    def _compress(
        self, settings: CompressSettings, excluded: Mapping[str, str], own: Mapping[str, float]
    ) -> Compressed:
        typing, groups = self.analysis.typing, self.analysis.groups
        scope = self._scope(settings, excluded, own)
        inside = self._compress_inside(settings, scope)
        beside = self._beside(settings, scope, inside)
        found: list[Allocation] = []
        unmeasured: list[str] = []

        def make(view: WeightVariant | None) -> list[GroupPlan]:
            allocator = replace(self._allocator(settings, view, scope), beside=beside)
            planner = allocator.planner
            if settings.lossless:
                with self._stage("plan"):
                    whole = planner.plans(groups, scope.excluded, lambda group: group.size)
                    return [planner.lossless(p.group) if p.group in scope.live else p for p in whole]
            with self._stage("allocate"):
                found.append(allocator.allocation())
                allocator.losses.rest()
                unmeasured[:] = [allocator.losses.unmeasured] if allocator.losses.unmeasured else []
            with self._stage("plan"):
                widths = found[-1].widths
                return planner.plans(groups, scope.excluded, lambda group: widths.get(group.atom, group.size))

        views = scope.views
        if views is not None and settings.draft:
            done = Reconstruction(make(next(iter(views), None)), Solution(), views.notes)
        elif views is not None:
            earlier = sum(self._seconds.get(name, 0.0) for name in ("plan", "allocate"))
            with self._stage("reconstruct"):
                done = reconstruct(typing, views, make)
            later = sum(self._seconds.get(name, 0.0) for name in ("plan", "allocate"))
            self._seconds["reconstruct"] -= later - earlier
        else:
            done = Reconstruction(make(None), Solution())
        with self._stage("shrink"):
            bodies = [(one.body, one.put_back(one.compressed.model, typing.graph)) for one in inside if one.shrinks]
            if bodies or any(plan.shrinks for plan in done.plans):
                result = apply_plans(typing, done.plans, done.solution, bodies)
            else:
                result = onnx.ModelProto()
                result.CopyFrom(self._model)
        return Compressed(
            result,
            self.analysis.before,
            typing,
            done.plans,
            {k: reason for part, _ in self.analysis.parts() for k, reason in part.unfolded.items()},
            dict(self._seconds),
            done.solution,
            found[-1] if found else None,
            (*done.notes, *unmeasured, *_note(settings, inside)),
            tuple(inside),
        )

    def _compress_inside(self, settings: CompressSettings, scope: _GroupScope) -> list[CompressedBody]:
        """The control-flow bodies, every group of which keeps the same share; merged by weights: samples do not show
        what goes on in them."""
        if not self._inside:
            return []
        keep = settings.keep
        if settings.target is not None:
            keep = self._shares(settings, scope).inside_for(settings.target.ratio)
        method = "merge" if settings.method == "reconstruct" else settings.method
        inner = replace(settings, keep=keep, target=None, allocation="uniform", method=method)
        return [
            CompressedBody(body, study._compress(inner, scope.excluded, scope.own))  # noqa: SLF001 - one of its kind
            for body, study in self._inside
        ]

    def _beside(self, settings: CompressSettings, scope: _GroupScope, inside: Sequence[CompressedBody]) -> int:
        """What the bodies cost from now on, in what the target counts."""
        if settings.target is None or not inside:
            return 0
        if settings.target.kind == "params":
            return sum(parameters_of(one.compressed.model, one.body.shared) for one in inside)
        plans = (plan for one in inside for plan in one.compressed.every_plan)
        return self._shares(settings, scope).inside({plan.group.atom: len(plan.keep) for plan in plans})

    def _shares(self, settings: CompressSettings, scope: _GroupScope) -> Shares:
        kind = settings.target.kind if settings.target else "macs"
        return Shares(self.analysis, kind, settings.blocks, scope.excluded.keys(), scope.own)

    def _scope(
        self,
        settings: CompressSettings,
        excluded: Mapping[str, str] | None = None,
        own: Mapping[str, float] | None = None,
    ) -> _GroupScope:
        """``excluded``, ``own``: as `_named` gives them, where they are known."""
        groups = self.analysis.groups
        if excluded is None or own is None:
            excluded, own = self._named(settings)
        live = [g for g in groups if not g.frozen and g.name not in excluded]
        ratios = (settings.keep, settings.target.ratio if settings.target else 1.0, *own.values())
        loses = not settings.lossless and min(ratios) < 1.0
        return _GroupScope(excluded, live, own, self._views if settings.method == "reconstruct" and loses else None)

    def _allocator(self, settings: CompressSettings, view: WeightVariant | None, scope: _GroupScope) -> Allocator:
        """What was planned and measured before stays known, for other budgets."""
        key = (view, settings.method, settings.select, settings.merge)
        knowledge = view.knowledge(scope.live) if view else {}
        if key not in self._planners:
            norms = self.analysis.folded.norms
            given = (settings.method, settings.select, settings.merge, norms, knowledge)
            plan_settings = PlanSettings(*given, self._tuning)
            planner = self._planners[key] = Planner(self.analysis.typing, plan_settings)
            count = sum(not group.frozen for group in self.analysis.groups)
            self._losses[planner] = Losses(planner, view, count)
        planner = self._planners[key]
        return Allocator(self.analysis, scope.live, scope.own, settings, planner, self._losses[planner])


def _note(settings: CompressSettings, inside: Sequence[CompressedBody]) -> list[str]:
    first = next((one.body.where for one in inside if one.shrinks), None)
    if settings.method != "reconstruct" or settings.lossless or first is None:
        return []
    return [f"merged by weights inside {first.rstrip('/')}: samples do not show what control-flow bodies compute"]


def compress(
    model: onnx.ModelProto,
    settings: CompressSettings,
    observer: Observer | None = None,
    progress: Progress = silent,
    samples: CalibrationSamples | None = None,
    engine: Engine | None = None,
    tuning: Tuning = TUNING,
) -> Compressed:
    """One result of one `Compressor`."""
    compressor = Compressor(model, settings.assignments, observer, progress, samples, engine, tuning=tuning)
    return compressor.compress(settings)
