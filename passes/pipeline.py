"""The way of a model through the passes: normalise, fold, infer, group, observe, allocate, plan, solve, shrink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx

from passes.allocation.allocate import Allocation, Allocator
from passes.allocation.losses import Losses
from passes.analysis import Analysis, analyse
from passes.calibrated.reconstruct import Reconstruction, reconstruct
from passes.calibrated.views import Samples, View, Views
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Graph
from passes.graph.shapes import Observer, Shape
from passes.plan import GroupPlan, PlanSettings
from passes.planner import Planner
from passes.settings import CompressSettings, exclusions, own_ratios
from passes.shrink import Solution, shrink, unshrunk_twin
from passes.ungrouped import first_quantised

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

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes."""
        return any(plan.shrinks for plan in self.plans)

    @property
    def quantised(self) -> str | None:
        """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
        return first_quantised(self.typing)

    def twin(self) -> onnx.ModelProto:
        """The same function at the original shapes (see `passes.shrink`)."""
        return unshrunk_twin(self.typing, self.plans, self.solution)


@dataclass(frozen=True)
class _Scope:
    """``excluded``: group name -> why it stays whole; ``live``: groups that may shrink; ``own``: group name -> the
    share that the user gave it alone; ``views``: of samples, where layers are to be solved on them."""

    excluded: dict[str, str]
    live: list[ChannelGroup]
    own: dict[str, float]
    views: Views | None


class Study:
    """A model about which everything is found out once, whatever number of results is made of it.

    ``model`` stays as it is. ``samples``: what method ``reconstruct`` looks at; without them it merges. ``observer``
    finds shapes that inference cannot by running the model; ``progress`` is told the stage; ``analysis``: of the same
    model, if it is there already.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        input_shapes: Mapping[str, Shape] | None = None,
        observer: Observer | None = None,
        progress: Progress = silent,
        samples: Samples | None = None,
        analysis: Analysis | None = None,
    ) -> None:
        self._model, self._progress = model, progress
        self._seconds: dict[str, float] = {}
        self.analysis = analysis or analyse(model, input_shapes or {}, observer, self._stage)
        self._views = Views(self.analysis.before, self.analysis.typing, samples) if samples is not None else None
        self._planners: dict[tuple[object, ...], Planner] = {}
        self._losses: dict[Planner, Losses] = {}

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process: the terminal that progress is shown on stays here."""
        return {**vars(self), "_progress": silent, "_seconds": {}}

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
        typing, groups = self.analysis.typing, self.analysis.groups
        scope = self._scope(settings)
        found: list[Allocation] = []
        unmeasured: list[str] = []

        def make(view: View | None) -> list[GroupPlan]:
            allocator = self._allocator(settings, view, scope)
            planner = allocator.planner
            if settings.lossless:
                with self._stage("plan"):
                    whole = planner.plans(groups, scope.excluded, lambda group: group.size)
                    return [planner.lossless(p.group) if p.group in scope.live else p for p in whole]
            with self._stage("allocate"):
                found.append(allocator.allocation())
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
            if any(plan.shrinks for plan in done.plans):
                result = shrink(typing, done.plans, done.solution)
            else:
                result = onnx.ModelProto()
                result.CopyFrom(self._model)
        return Compressed(
            result,
            self.analysis.before,
            typing,
            done.plans,
            self.analysis.folded.left,
            dict(self._seconds),
            done.solution,
            found[-1] if found else None,
            (*done.notes, *unmeasured),
        )

    def _scope(self, settings: CompressSettings) -> _Scope:
        groups = self.analysis.groups
        excluded = exclusions(groups, settings)
        live = [g for g in groups if not g.frozen and g.name not in excluded]
        own = own_ratios(groups, settings)
        ratios = (settings.keep, settings.target.ratio if settings.target else 1.0, *own.values())
        loses = not settings.lossless and min(ratios) < 1.0
        return _Scope(excluded, live, own, self._views if settings.method == "reconstruct" and loses else None)

    def _allocator(self, settings: CompressSettings, view: View | None, scope: _Scope) -> Allocator:
        """What was planned and measured before stays known, for other budgets."""
        key = (view, settings.method, settings.select, settings.merge)
        knowledge = view.knowledge(scope.live) if view else {}
        if key not in self._planners:
            norms = self.analysis.folded.norms
            plan_settings = PlanSettings(settings.method, settings.select, settings.merge, norms, knowledge)
            planner = self._planners[key] = Planner(self.analysis.typing, plan_settings)
            count = sum(not group.frozen for group in self.analysis.groups)
            self._losses[planner] = Losses(planner, view, count)
        planner = self._planners[key]
        return Allocator(self.analysis, scope.live, scope.own, settings, planner, self._losses[planner])


def compress(
    model: onnx.ModelProto,
    settings: CompressSettings,
    observer: Observer | None = None,
    progress: Progress = silent,
    samples: Samples | None = None,
) -> Compressed:
    """One result of one `Study`."""
    return Study(model, settings.input_shapes, observer, progress, samples).compress(settings)
