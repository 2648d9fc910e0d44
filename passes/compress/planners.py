"""Caches planners and measured losses for several budgets of one model."""

from __future__ import annotations

from passes.allocation.allocator import Allocator
from passes.allocation.losses import Losses
from passes.analysis.known import Analysis
from passes.compress.scope import GroupScope
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant
from passes.settings.compress import CompressSettings
from passes.settings.tuning import TUNING, Tuning


class Planners:
    """The planners of one model: one for each variant of its weights and each way to select and merge channels."""

    def __init__(self, analysis: Analysis, tuning: Tuning = TUNING) -> None:
        self._analysis, self._tuning = analysis, tuning
        self._planners: dict[tuple[object, ...], Planner] = {}
        self._losses: dict[Planner, Losses] = {}

    def allocator(self, settings: CompressSettings, variant: WeightVariant | None, scope: GroupScope) -> Allocator:
        """The allocator with the planner and the losses of these settings.

        Settings that differ only in the budget share planner and losses.
        """
        kept = settings.kept or {}
        key = (variant, settings.method, settings.select, settings.merge, tuple(kept.items()))
        statistics = variant.channel_statistics(scope.live) if variant else {}
        if key not in self._planners:
            norms = self._analysis.folded.norms
            given = (settings.method, settings.select, settings.merge, norms, statistics)
            mixes = variant is None or not variant.recalibrated
            plan_settings = PlanSettings(*given, self._tuning, kept, mixes)
            planner = self._planners[key] = Planner(self._analysis.typing, plan_settings)
            count = sum(not group.frozen for group in self._analysis.groups)
            self._losses[planner] = Losses(planner, variant, count)
        planner = self._planners[key]
        live = [group for group in scope.live if planner.can_shrink(group)]
        return Allocator(self._analysis, live, scope.own, settings, planner, self._losses[planner])
