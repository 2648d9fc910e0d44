"""The passes of the second half: observe samples, allocate widths, plan, solve layers, shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from passes.allocation.allocator import Allocation
from passes.analysis.known import Analysis
from passes.axes.channel_groups import ChannelGroup
from passes.channels.statistics import ChannelStatistics
from passes.compress.compressed import CompressedBody
from passes.compress.planners import Planners
from passes.compress.scope import GroupScope, group_scope
from passes.interface.model_pass import PassResult, WorkingModel
from passes.planning.plan import GroupPlan
from passes.planning.planner import Planner
from passes.reconstruction.reconstruct import Reconstruction, diverges, solve
from passes.reconstruction.weight_variant import WeightVariant
from passes.settings.compress import CompressSettings
from passes.surgery.apply_plan import Solution, apply_plans


@dataclass(frozen=True)
class Observed:
    """``statistics``: group name -> statistics of its channels on samples."""

    statistics: Mapping[str, ChannelStatistics]


@dataclass(frozen=True)
class Planned:
    """A plan for every group, in order."""

    plans: list[GroupPlan]


@dataclass(frozen=True)
class MeasuredLosses:
    """``points``: group name -> width -> measured loss of the outputs, noise over signal, with this group alone cut."""

    points: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Solved:
    """``solution``: new weights; ``holds``: whether the outputs stay near the original's with them."""

    solution: Solution
    holds: bool = True


@dataclass(frozen=True)
class Observe:
    """Finds `Observed` by running the samples through ``variant``."""

    settings: CompressSettings
    variant: WeightVariant
    name: ClassVar[str] = "observe"
    requires: ClassVar[tuple[type, ...]] = (Analysis,)

    def run(self, model: WorkingModel) -> PassResult:
        """Compute the statistics of the channels in groups that may shrink. The variant stores them."""
        scope = _scope(model, self.settings)
        return PassResult(model.knowing(scope, Observed(self.variant.channel_statistics(scope.live))))


@dataclass(frozen=True)
class Allocate:
    """Finds the `Allocation`, the width of every group, and the `Planner` that goes with it.

    ``variant``: the weights that losses are measured with, None to go by weights alone; ``planners``: those of earlier
    runs on the same analysis; ``beside``: cost of control-flow bodies in the unit of the target.
    """

    settings: CompressSettings
    variant: WeightVariant | None = None
    planners: Planners | None = None
    beside: int = 0
    name: ClassVar[str] = "allocate"
    requires: ClassVar[tuple[type, ...]] = (Analysis,)

    def run(self, model: WorkingModel) -> PassResult:
        """Choose the width of every group, by measured losses where ``variant`` has samples.

        Raises
        ------
        TargetError: the target cannot be met.
        """
        scope, planners = _scope(model, self.settings), self.planners or Planners(model[Analysis])
        allocator = replace(planners.allocator(self.settings, self.variant, scope), beside=self.beside)
        allocation, losses = allocator.allocation(), allocator.losses
        losses.release()
        notes = (losses.unmeasured,) if losses.unmeasured else ()
        measured = MeasuredLosses(losses.points)
        return PassResult(model.knowing(scope, allocation, allocator.planner, measured), notes=notes)


@dataclass(frozen=True)
class Plan:
    """Finds `Planned`: the channels to keep at the allocated widths, and the compensation for the others."""

    name: ClassVar[str] = "plan"
    requires: ClassVar[tuple[type, ...]] = (Analysis, GroupScope, Allocation, Planner)

    def run(self, model: WorkingModel) -> PassResult:
        """Choose the channels to keep in each group. Reasons are those of groups that stay whole."""
        widths, groups, scope = model[Allocation].widths, model[Analysis].groups, model[GroupScope]
        plans = model[Planner].plans(groups, scope.excluded, lambda g: widths.get(g.atom, g.size))
        kept = model[Planner].settings.kept
        notes = [
            f"{plan.group.name} keeps all of its {plan.group.size} channels: {plan.reason}"
            for plan in plans
            if plan.reason is not None and plan.reason is plan.group.normalised and _is_asked(plan.group, scope, kept)
        ]
        return _planned(model, plans, notes)


@dataclass(frozen=True)
class PlanLossless:
    """Finds `Planned`: it removes only channels that are dead, constant or parallel to others on every input."""

    settings: CompressSettings
    planners: Planners | None = None
    name: ClassVar[str] = "plan"
    requires: ClassVar[tuple[type, ...]] = (Analysis,)

    def run(self, model: WorkingModel) -> PassResult:
        """Plan to remove redundant channels only. Reasons are those of groups that stay whole."""
        scope, planners = _scope(model, self.settings), self.planners or Planners(model[Analysis])
        planner = planners.allocator(self.settings, None, scope).planner
        whole = planner.plans(model[Analysis].groups, scope.excluded, lambda group: group.size)
        return _planned(model, [planner.lossless(p.group) if p.group in scope.live else p for p in whole])


@dataclass(frozen=True)
class Solve:
    """Finds `Solved`: new weights of the layers that read removed channels, from the activations of ``variant``."""

    variant: WeightVariant
    effort: str = "low"
    name: ClassVar[str] = "reconstruct"
    requires: ClassVar[tuple[type, ...]] = (Analysis, Planned)

    def run(self, model: WorkingModel) -> PassResult:
        """Solve the layers that read removed channels. Reasons are those of layers that were not solved together with
        the one before.

        Raises
        ------
        RunError: a segment of the model cannot be run.
        """
        typing = model[Analysis].typing
        done: Reconstruction = solve(self.variant, typing, model[Planned].plans, self.effort)
        solved = Solved(done.solution, not diverges(typing, done, self.variant))
        found = model.knowing(Planned(done.plans), solved)
        return PassResult(found, reasons=done.solution.unrefined, notes=done.notes)


@dataclass(frozen=True)
class Shrink:
    """Applies the plans. ``bodies``: control-flow bodies with their compressed models."""

    bodies: Sequence[CompressedBody] = ()
    name: ClassVar[str] = "shrink"
    requires: ClassVar[tuple[type, ...]] = (Analysis, Planned)

    def run(self, model: WorkingModel) -> PassResult:
        """Build the smaller graph from plans and new weights. The graph is unchanged if no channel is removed."""
        typing, plans = model[Analysis].typing, model[Planned].plans
        solved = model.get(Solved) or Solved(Solution())
        bodies = [(b.body, b.put_back(b.compressed.model, typing.graph)) for b in self.bodies if b.shrinks]
        if not bodies and not any(plan.shrinks for plan in plans):
            return PassResult(model)
        return PassResult(model.having(apply_plans(typing, plans, solved.solution, bodies)), changed=True)


def _scope(model: WorkingModel, settings: CompressSettings) -> GroupScope:
    return model.get(GroupScope) or group_scope(model[Analysis], settings)


def _is_asked(group: ChannelGroup, scope: GroupScope, kept: Mapping[str, Sequence[int]]) -> bool:
    """Whether the user named the group to lose channels."""
    return scope.own.get(group.name, 1.0) < 1 or len(kept.get(group.name, range(group.size))) < group.size


def _planned(model: WorkingModel, plans: list[GroupPlan], notes: Sequence[str] = ()) -> PassResult:
    reasons = {plan.group.name: plan.reason for plan in plans if plan.reason and not plan.shrinks}
    return PassResult(model.knowing(Planned(plans)), reasons=reasons, notes=tuple(notes))
