"""Makes the plan of a channel group at a given width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from passes.axes.channel_groups import ChannelGroup, read_alike
from passes.axes.inference import Typing
from passes.channels.covariance import summed
from passes.channels.redundant import RedundantChannels, redundant_channels
from passes.channels.statistics import ChannelStatistics, apart, differs, joint_covariance, readers_gram, readers_power
from passes.channels.value_bounds import nonnegative_tensors
from passes.channels.weights import Signature, signature
from passes.graph.model import Array
from passes.interface.reason import TENSOR, Reason, planned
from passes.numerics.projection import Principal
from passes.numerics.subset import choose_alone, choose_columns
from passes.planning.compensation import compensate, reads_take_constants, removed_constants
from passes.planning.criteria import select
from passes.planning.linear_groups import directions, is_linear, project
from passes.planning.plan import GroupPlan, PlanSettings, kept_channels
from passes.settings.tuning import Tuning
from passes.weights.stored_tensors import storing
from passes.weights.tuning import STORED_WEIGHTS

Width = Callable[[ChannelGroup], int]
"""Number of channels to keep in a group."""


def keep_ratio(ratio: float) -> Width:
    """Every group keeps the same share of its channels."""
    return lambda group: kept_channels(ratio, group.size)


@dataclass(frozen=True)
class Ranking:
    """``order``: channels that are not redundant, the most important first; ``lost`` (C + 1,): share of the variance of
    the readers' outputs that is lost with 0, 1, ... C channels left."""

    order: Array
    lost: Array


class Planner:
    """Plans groups at any width. What does not depend on the width is computed once."""

    def __init__(self, typing: Typing, settings: PlanSettings, whole: Planner | None = None) -> None:
        """``whole``: the planner with statistics of all samples. This one then leaves out the samples that losses are
        measured on."""
        self.typing, self.settings, self._whole = typing, settings, whole
        self._signatures: dict[str, Signature] = {} if whole is None else whole._signatures
        self._redundancies: dict[tuple[str, bool], RedundantChannels] = {} if whole is None else whole._redundancies
        self._rankings: dict[str, Ranking] = {}
        self._principals: dict[str, Principal | None] = {}

    @property
    def _tuning(self) -> Tuning:
        return self.settings.tuning

    @cached_property
    def unbiased(self) -> Planner:
        """A planner whose statistics leave out the samples that losses are measured on."""
        return Planner(self.typing, self.settings, self)

    def plans(self, groups: Sequence[ChannelGroup], excluded: Mapping[str, Reason], width: Width) -> list[GroupPlan]:
        """A plan for every group, in order. Plans of whole groups have a reason. ``excluded``: group name -> reason."""
        made = []
        for group in groups:
            reason = group.frozen or excluded.get(group.name)
            whole = np.arange(group.size)
            made.append(GroupPlan(group, whole, reason=reason) if reason else self.plan(group, width(group)))
        return made

    def plan(self, group: ChannelGroup, width: int) -> GroupPlan:
        """The plan that keeps ``width`` channels."""
        return self._planned(group, width, self._redundant(group))

    def _planned(self, group: ChannelGroup, width: int, redundant: RedundantChannels) -> GroupPlan:
        if not self.can_shrink(group):
            return GroupPlan(group, np.arange(group.size), reason=group.normalised)
        if width >= group.size:
            return GroupPlan(group, np.arange(group.size), reason=planned(f"{group.size} channels are to be kept"))
        settings, sign = self.settings, self._signature(group)
        given = settings.kept.get(group.name)
        gone = np.array(redundant.order[: group.size - width], np.intp) if given is None else redundant.replaced(given)
        candidates = np.setdiff1d(np.arange(group.size), gone)
        missing = self._missing_statistics(group) if settings.method == "reconstruct" else None
        if given is not None:
            keep = np.sort(np.array(given, np.intp))
        elif settings.select == "auto" and (group.recurrent or (settings.method == "reconstruct" and missing is None)):
            keep = candidates
            if width < len(candidates):
                keep = np.sort(self.ranking(group, width).order[:width])
        else:
            keep = select(sign, candidates, width, "l1" if settings.select == "auto" else settings.select)
        plan = GroupPlan(group, keep, constants=removed_constants(redundant, gone))
        by_weights = settings.method != "reconstruct" or missing is not None
        if group.unmergeable is not None:
            plan.method = "lossless"
            if len(keep) + len(gone) < group.size:
                plan.method, plan.reason = "prune", planned("pruned only", group.unmergeable)
        elif by_weights or width == len(candidates):
            compensate(self.typing, plan, sign, redundant, gone, settings)
            if missing is not None and plan.method == "merge":
                plan.reason = planned("merged only", missing)
        else:
            self._predict(plan)
        return plan

    def can_shrink(self, group: ChannelGroup) -> bool:
        """Whether channels can be removed: where norms read them, mixtures must take their place."""
        return group.normalised is None or self._principal(group) is not None

    def _principal(self, group: ChannelGroup) -> Principal | None:
        """The most important directions of a group whose channels may be mixed by any matrix, None for others."""
        if self._whole is not None and not differs(self._whole._statistics(group)):
            return self._whole._principal(group)
        if group.name not in self._principals:
            seen, settings = self._statistics(group), self.settings
            numerics = self._tuning.numerics
            wanted = settings.mixes and settings.method == "reconstruct" and settings.select == "auto"
            known = bool(seen) and group.size <= numerics.subset.most_greedy and self._missing_statistics(group) is None
            possible = wanted and known and is_linear(self.typing, group)
            found = directions(self.typing, group, seen, numerics.projection) if possible else None
            self._principals[group.name] = found
        return self._principals[group.name]

    def lossless(self, group: ChannelGroup) -> GroupPlan:
        """The plan that removes only channels that are redundant on every input."""
        if group.normalised is not None:
            return GroupPlan(group, np.arange(group.size), reason=group.normalised)
        exact = self._redundant(group, recorded=False)
        plan = self._planned(group, group.size - len(exact.order), exact)
        if not plan.shrinks:
            plan.reason = planned("no channel is free")
            if group.unmergeable is not None:
                plan.reason = planned("no channel is known to be dead, and copies cannot be merged", group.unmergeable)
        return plan

    def ranking(self, group: ChannelGroup, most: int | None = None) -> Ranking:
        """The channels in the order of greedy column-subset selection, the first ``most`` of them (all by default).

        The covariance is that of the samples. Without samples it is that of the producers' outputs on white noise.
        Hidden units of recurrent layers cannot be predicted from others. They are ordered by their contribution.
        """
        if self._whole is not None and not differs(self._whole._statistics(group)):
            return self._whole.ranking(group, most)
        known = self._rankings.get(group.name)
        redundant = self._redundant(group).order
        most = min(group.size if most is None else most, group.size - len(redundant))
        if known is None or len(known.order) < most:
            candidates = np.setdiff1d(np.arange(group.size), np.array(redundant, np.intp))
            if group.recurrent:
                known = self._by_weight(group, candidates)
            elif group.size > self._tuning.numerics.subset.most_greedy:
                known = self._each_alone(group, candidates)
            else:
                known = self._greedy(group, candidates, most)
            self._rankings[group.name] = known
        return known

    def _greedy(self, group: ChannelGroup, candidates: Array, most: int) -> Ranking:
        """The first ``most`` channels, each the best beside those before it."""
        seen = self._statistics(group)
        if seen and self._missing_statistics(group) is None:
            covariance = joint_covariance(seen)
        else:
            covariance = _products(self._signature(group).rows.values)
        gram = readers_gram(self.typing, group, seen)
        order, explained = choose_columns(covariance, gram, candidates, most, self._tuning.numerics.subset)
        principal = self._principal(group)
        return Ranking(order, _lost(explained, group.size) if principal is None else principal.lost)

    def _each_alone(self, group: ChannelGroup, candidates: Array) -> Ranking:
        """The ranking of many channels, which are judged one by one: no matrix of all pairs of them is made."""
        seen = self._statistics(group)
        if seen and self._missing_statistics(group) is None:
            variance = np.zeros(group.size)
            for one in seen.values():
                variance += one.covariance.variances
        else:
            from passes.numerics.norms import row_norms  # here: `inspect` should not wait for the compiler

            variance = row_norms(self._signature(group).rows, 2) ** 2
        order, explained = choose_alone(variance, readers_power(self.typing, group, seen), candidates)
        return Ranking(order, _lost(explained, group.size))

    def _by_weight(self, group: ChannelGroup, candidates: Array) -> Ranking:
        """Order hidden units by their contribution to all readers, their own layer included.

        It is the power of a unit on samples times the squared norm of the weights that read it. Without samples the
        squared norm of the unit's own weights takes the place of the power.
        """
        seen, rows = self._statistics(group), self._signature(group).full.values.astype(np.float64)
        power = np.square(rows).sum(axis=1)
        if seen and self._missing_statistics(group) is None:
            power = np.sum([s.covariance.variances + s.mean**2 for s in seen.values()], axis=0)
        weight = power * np.diag(readers_gram(self.typing, group, ()))
        order = candidates[np.argsort(-weight[candidates], kind="stable")]
        lost = np.zeros(group.size + 1)
        given = np.cumsum(np.append(0.0, weight[order]))
        lost[: len(given)] = 1.0 - given / given[-1] if given[-1] > 0 else 0.0
        return Ranking(order, np.maximum(lost, 0.0))

    @cached_property
    def _nonnegative(self) -> set[str]:
        return nonnegative_tensors(self.typing.graph)

    def _signature(self, group: ChannelGroup) -> Signature:
        if group.name not in self._signatures:
            if storing():
                self._signatures.clear()  # together they are as large as the weights
            self._signatures[group.name] = signature(self.typing, group, self.settings.norms)
        return self._signatures[group.name]

    def _redundant(self, group: ChannelGroup, recorded: bool = True) -> RedundantChannels:
        """Redundant channels; none where norms read them, since all are in the length. ``recorded``: use norm
        statistics, which hold only for inputs like the training data."""
        if group.normalised is not None:
            return RedundantChannels([], np.full(group.size, -1), np.ones(group.size))
        norms = self.settings.norms if recorded else {}
        key = (group.name, bool(norms))
        if key not in self._redundancies:
            sign = self._signature(group)
            limits = self._tuning.redundancy
            self._redundancies[key] = redundant_channels(self.typing, group, sign, self._nonnegative, norms, limits)
        return self._redundancies[key]

    def _statistics(self, group: ChannelGroup) -> ChannelStatistics:
        known = self.settings.statistics.get(group.name, {})
        return known if self._whole is None else apart(known)

    def _missing_statistics(self, group: ChannelGroup) -> Reason | None:
        """Why a group has no statistics for all tensors that are read, or None."""
        read = {name for step in group.steps for name in step.consumed if name not in self.typing.graph.constants}
        missing = sorted(read - self._statistics(group).keys())
        if not read:
            return planned("nothing reads them")
        return planned(f"samples do not show them in {TENSOR}", place=missing[0]) if missing else None

    def _predict(self, plan: GroupPlan) -> None:
        """Predict the removed channels from the kept ones, or all of them from what takes the place of these, by the
        statistics of the samples."""
        plan.method = "reconstruct"
        seen, ridge = self._statistics(plan.group), self._tuning.statistics.prediction_ridge
        principal = self._principal(plan.group)
        if principal is not None:
            project(self.typing, plan, seen, principal, ridge)
            return
        for read in read_alike(plan.group):
            names = [name for name in read if name in seen]
            if not names:
                continue
            z = summed([seen[name].covariance for name in names]).mixing(plan.keep, ridge)
            for name in names:
                plan.mixing[name] = z
                if reads_take_constants(self.typing, plan.group, name):
                    plan.constants[name] = seen[name].mean - z @ seen[name].mean[plan.keep]


def _lost(explained: Array, size: int) -> Array:
    """The share that is lost with 0, 1, ... ``size`` channels left, by the share that the first ones explain."""
    lost = np.zeros(size + 1)
    lost[: len(explained) + 1] = 1.0 - np.minimum(np.concatenate([[0.0], explained]), 1.0)
    return lost


def _products(rows: Array) -> Array:
    """Products (C, C) of all pairs of rows (C, D) in float64; of stored weights in parts, which are all that is in
    memory."""
    step = max(1, STORED_WEIGHTS.resident_bytes // 8 // max(1, len(rows))) if storing() else max(1, rows.shape[1])
    total = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], step):
        part = rows[:, start : start + step].astype(np.float64)
        total += part @ part.T
    return total
