"""The way of a model through the passes: normalise, fold, infer, group, plan, shrink."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import onnx

from passes.calibrated.knowledge import Knowledge
from passes.calibrated.reconstruct import Reconstruction, Samples, reconstruct
from passes.fold_batchnorm import Folded, fold_batchnorm
from passes.graph.errors import PassError
from passes.graph.groups import ChannelGroup, channel_groups
from passes.graph.infer import Typing, infer
from passes.graph.model import Graph
from passes.graph.registry import is_quantised
from passes.graph.shapes import Observer, Shape
from passes.merge import MergeSettings
from passes.normalise import normalise
from passes.plan import GroupPlan, PlanSettings, keep_ratio, make_plans
from passes.shrink import Solution, shrink, unshrunk_twin

Progress = Callable[[str], None]
Stage = Callable[[str], AbstractContextManager[None]]
"""Surrounds the stage of the given name, to time it and to show it."""


@dataclass(frozen=True)
class CompressSettings:
    """What to do. ``keep``: share of channels every group keeps; ``lossless``: remove only what costs nothing;
    ``keep_layers``: (regular expression, share) pairs, the first whose expression is found in the name of one of a
    group's producers wins; ``exclude``: expressions for groups to leave whole; ``coupled``: whether groups that tie
    several layers shrink; ``method``: reconstruct, merge or prune; ``select``: a criterion of `passes.select`."""

    keep: float = 1.0
    lossless: bool = False
    method: str = "merge"
    select: str = "l1"
    merge: MergeSettings = MergeSettings()
    coupled: bool = True
    exclude: tuple[str, ...] = ()
    keep_layers: tuple[tuple[str, float], ...] = ()
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)


@dataclass
class Compressed:
    """``model``: the result; ``typing`` and ``plans``: how it came about; ``unfolded``: BatchNormalization left, with
    reasons; ``seconds``: by stage."""

    model: onnx.ModelProto
    before: Graph
    typing: Typing
    plans: list[GroupPlan]
    unfolded: dict[str, str]
    seconds: dict[str, float]
    solution: Solution = field(default_factory=Solution)
    notes: tuple[str, ...] = ()

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes."""
        return any(plan.shrinks for plan in self.plans)

    @property
    def quantised(self) -> str | None:
        """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
        cut = {flow.record.node.index for flow in self.typing.flows}
        whole = (node for node in self.typing.graph.nodes if node.index not in cut and is_quantised(node.op))
        return next((f"{node.label} ({node.op})" for node in whole), None)

    def twin(self) -> onnx.ModelProto:
        """The same function at the original shapes (see `passes.shrink`)."""
        return unshrunk_twin(self.typing, self.plans, self.solution)


@dataclass(frozen=True)
class Analysis:
    """What is known of a model before anything is decided. ``before``: the normalised model; ``folded``: what became of
    its BatchNormalization; ``typing`` and ``groups``: axes and channels of the folded model."""

    before: Graph
    folded: Folded
    typing: Typing
    groups: list[ChannelGroup]


def analyse(
    model: onnx.ModelProto, input_shapes: Mapping[str, Shape], observer: Observer | None, stage: Stage
) -> Analysis:
    """The first half of `compress`: find the channel groups of ``model``, which stays as it is."""
    with stage("normalise"):
        normal = normalise(model)
        before = Graph(normal, input_shapes, observer)
    with stage("fold"):
        folded = fold_batchnorm(before)
    with stage("infer"):
        graph = before if folded.model is normal else Graph(folded.model, input_shapes, observer)
        typing = infer(graph)
        groups = channel_groups(typing)
    return Analysis(before, folded, typing, groups)


def compress(
    model: onnx.ModelProto,
    settings: CompressSettings,
    observer: Observer | None = None,
    progress: Progress = lambda stage: None,
    samples: Samples | None = None,
) -> Compressed:
    """Compress ``model``, which stays as it is. Where no channel goes, the result is an unchanged copy.

    ``samples``: what method ``reconstruct`` looks at; without them it merges. ``observer`` finds shapes that inference
    cannot by running the model; ``progress`` is told the stage. Raises `PassError` if an expression of the settings
    matches no layer.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress(name)
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    analysis = analyse(model, settings.input_shapes, observer, stage)
    typing, groups = analysis.typing, analysis.groups
    excluded = exclusions(groups, settings)
    plan_settings = PlanSettings(
        _widths(groups, settings),
        settings.method,
        settings.select,
        settings.merge,
        settings.lossless,
        analysis.folded.norms,
    )

    def make(knowledge: Mapping[str, Knowledge]) -> list[GroupPlan]:
        with stage("plan"):
            return make_plans(typing, groups, excluded, replace(plan_settings, knowledge=knowledge))

    lossy = [g for g in groups if not g.frozen and g.name not in excluded and plan_settings.width(g) < g.size]
    if settings.method == "reconstruct" and samples is not None and lossy and not settings.lossless:
        with stage("reconstruct"):
            done = reconstruct(analysis.before, typing, lossy, samples, make)
        seconds["reconstruct"] -= seconds["plan"]
    else:
        done = Reconstruction(make({}), Solution())
    plans = done.plans
    with stage("shrink"):
        if any(plan.shrinks for plan in plans):
            result = shrink(typing, plans, done.solution)
        else:
            result = onnx.ModelProto()
            result.CopyFrom(model)
    left = analysis.folded.left
    return Compressed(result, analysis.before, typing, plans, left, seconds, done.solution, done.notes)


def exclusions(groups: Sequence[ChannelGroup], settings: CompressSettings) -> dict[str, str]:
    """Groups to leave whole, with the reason."""
    found: dict[str, str] = {}
    for expression in settings.exclude:
        matches = [g for g in groups if _matches(expression, g)]
        if not matches:
            raise PassError(f"--exclude {expression!r} matches no layer; the first is {_first(groups)}")
        found.update({g.name: f"excluded by {expression!r}" for g in matches})
    if not settings.coupled:
        found.update({g.name: f"coupled: {g.coupled}" for g in groups if g.coupled and g.name not in found})
    return found


def _widths(groups: Sequence[ChannelGroup], settings: CompressSettings) -> Callable[[ChannelGroup], int]:
    ratios: dict[str, float] = {}
    for expression, ratio in settings.keep_layers:
        matches = [g for g in groups if _matches(expression, g)]
        if not matches:
            raise PassError(f"--keep-layer {expression!r} matches no layer; the first is {_first(groups)}")
        for group in matches:
            ratios.setdefault(group.name, ratio)
    return lambda group: keep_ratio(ratios.get(group.name, settings.keep))(group)


def _matches(expression: str, group: ChannelGroup) -> bool:
    try:
        return any(re.search(expression, name) for name in group.producers)
    except re.error as error:
        raise PassError(f"{expression!r} is not a regular expression: {error}") from error


def _first(groups: Sequence[ChannelGroup]) -> str:
    return repr(groups[0].name) if groups else "none: the model has no layer with weights that a rule knows"
