"""Provides the loss curve of each group: measured if there are samples, else from the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from passes.allocation.loss_curves import predicted_loss
from passes.allocation.sensitivity import Sensitivity
from passes.axes.channel_groups import ChannelGroup
from passes.graph.model import Array
from passes.interface.errors import RunError
from passes.planning.planner import Planner
from passes.reconstruction.weight_variant import WeightVariant


class Losses:
    """Loss curves, computed once for every group.

    ``variant``: the weights to measure with. Without one, all layers that read a group count equally.
    ``count``: number of groups that may be measured in all. The effort for each group depends on it, and not on the
    groups of the first call, so results do not depend on the order of calls.
    """

    def __init__(self, planner: Planner, variant: WeightVariant | None, count: int) -> None:
        self._planner, self._variant, self._count = planner, variant, count
        self._sensitivity: Sensitivity | None = None
        self._found: dict[str, Array] = {}
        self.points: dict[str, dict[int, float]] = {}
        """Group name -> width -> measured loss of the outputs, of groups that were measured."""
        self.unmeasured: str | None = None
        """Why something was not measured, though there are samples."""

    def of(self, groups: Sequence[ChannelGroup]) -> dict[str, Array]:
        """Group name -> loss (C + 1,) with 0, 1, ... C channels left."""
        new = [group for group in groups if group.name not in self._found]
        measured = self._measured(new) if new else {}
        self.points.update(measured)
        for group in new:
            lost = self._planner.ranking(group).lost
            points = measured.get(group.name, {})
            tuning = self._planner.settings.tuning.allocation
            self._found[group.name] = predicted_loss(lost if points else lost * len(group.consumers), points, tuning)
        return {group.name: self._found[group.name] for group in groups}

    def together(self, groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> float | None:
        """Loss of the outputs with all groups at ``widths``; None where it cannot be measured."""
        planner = self._planner.unbiased
        return self._tried("all groups cut", lambda sensitivity: sensitivity.together(planner, groups, widths))

    def solved(self, groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> float | None:
        """Loss of the outputs with all groups at ``widths`` and layers solved; None where it cannot be measured."""
        planner = self._planner.unbiased
        return self._tried("layers solved", lambda sensitivity: sensitivity.solved(planner, groups, widths))

    def _tried(self, what: str, loss: Callable[[Sensitivity], float | None]) -> float | None:
        try:
            return loss(self._sensitivity) if self._sensitivity else None
        except RunError as error:
            self.unmeasured = f"what the outputs lose with {what} was not measured: {error}"
            return None

    def release(self) -> None:
        """Free the stored outputs, which can be recomputed."""
        if self._sensitivity:
            self._sensitivity.release()

    def _measured(self, groups: Sequence[ChannelGroup]) -> dict[str, dict[int, float]]:
        if self._variant is None:
            return {}
        try:
            tuning = self._planner.settings.tuning.sensitivity
            self._sensitivity = self._sensitivity or Sensitivity(self._variant, self._count, tuning)
            return self._sensitivity.alone(self._planner.unbiased, groups)
        except RunError as error:  # a segment of the model does not run alone
            self.unmeasured = f"the budget was spread without measuring what the outputs lose: {error}"
            return {}
