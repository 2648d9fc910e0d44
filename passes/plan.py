"""What is to happen to each channel group: how many channels stay, which, and where the others' share goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from passes.bounds import nonnegative_tensors
from passes.calibrated.knowledge import Knowledge, most_telling
from passes.expectation import Sample, recorded_samples
from passes.fold_batchnorm import FoldedNorm
from passes.free import FreeChannels, free_channels, takes_constants
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Array
from passes.merge import MergeSettings, most_similar
from passes.propagate import gains, obstacle
from passes.select import select
from passes.signature import Signature, signature


@dataclass
class GroupPlan:
    """Channels ``keep`` (K,) of ``group`` stay. ``mixing``: tensor that a consumer reads -> Z (C, K), its new weights
    being W Z; ``constants``: tensor -> (C,) values of removed constant channels, W c going into the consumer's bias."""

    group: ChannelGroup
    keep: Array
    mixing: dict[str, sparse.csr_array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    method: str = "none"
    reason: str | None = None
    error: float | None = None
    """Share of the variance of its readers' outputs that is lost, where samples show it."""

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes."""
        return len(self.keep) < self.group.size

    def selection(self) -> sparse.csr_array:
        """The Z (C, K) of plain removal."""
        kept = np.arange(len(self.keep))
        return sparse.csr_array((np.ones(len(kept)), (self.keep, kept)), shape=(self.group.size, len(kept)))


@dataclass(frozen=True)
class PlanSettings:
    """``width``: channels that stay in a group, given the group and how many of its channels are free."""

    width: Callable[[ChannelGroup], int]
    method: str = "merge"
    select: str = "l1"
    merge: MergeSettings = MergeSettings()
    lossless: bool = False
    norms: Mapping[str, FoldedNorm] = field(default_factory=dict)
    knowledge: Mapping[str, Knowledge] = field(default_factory=dict)
    """Group name -> what samples say of its channels, for method ``reconstruct``."""
    """Weights -> the BatchNormalization that was folded into them."""


def keep_ratio(ratio: float) -> Callable[[ChannelGroup], int]:
    """Every group keeps ceil(ratio * C) channels, at least one."""
    return lambda group: max(1, math.ceil(ratio * group.size - 1e-9))


def make_plans(
    typing: Typing, groups: Sequence[ChannelGroup], excluded: dict[str, str], settings: PlanSettings
) -> list[GroupPlan]:
    """A plan for every group, in order; groups that stay whole say why. ``excluded``: group name -> reason."""
    nonnegative = nonnegative_tensors(typing.graph)
    return [_plan(typing, group, excluded, settings, nonnegative) for group in groups]


def _plan(
    typing: Typing, group: ChannelGroup, excluded: dict[str, str], settings: PlanSettings, nonnegative: set[str]
) -> GroupPlan:
    whole = np.arange(group.size)
    width = group.size if settings.lossless else settings.width(group)
    reason = group.frozen or excluded.get(group.name)
    if reason is None and width >= group.size and not settings.lossless:
        reason = f"{group.size} channels are to be kept"
    if reason is not None:
        return GroupPlan(group, whole, reason=reason)
    sign = signature(typing, group, settings.norms)
    free = free_channels(typing, group, sign, nonnegative, settings.norms)
    if settings.lossless:
        width = group.size - len(free.order)
    gone = np.array(free.order[: group.size - width], np.intp)
    candidates = np.setdiff1d(whole, gone)
    seen = settings.knowledge.get(group.name, {})
    blind = _blind(typing, group, seen) if settings.method == "reconstruct" else None
    if settings.method == "reconstruct" and settings.select == "auto" and blind is None:
        keep = most_telling(typing, group, seen, candidates.tolist(), width) if width < len(candidates) else candidates
    else:
        keep = select(sign, candidates, width, "l1" if settings.select == "auto" else settings.select)
    plan = GroupPlan(group, keep, constants=_removed_constants(free, gone))
    if not plan.shrinks:
        plan.reason = "no channel is free"
    elif group.unmixable is not None:
        plan.method, plan.reason = "prune", f"pruned only: {group.unmixable}"
    elif settings.method != "reconstruct" or blind is not None or width == len(candidates):
        _absorb(typing, plan, sign, free, gone, settings)
        if blind is not None and plan.method == "merge":
            plan.reason = f"merged only: {blind}"
    else:
        _predict(typing, plan, seen)
    return plan


def _blind(typing: Typing, group: ChannelGroup, seen: Knowledge) -> str | None:
    """Why samples say too little of a group's channels, or nothing."""
    read = {name for step in group.steps for name in step.consumed if name not in typing.graph.constants}
    missing = sorted(read - seen.keys())
    if not read:
        return "nothing reads them"
    return f"samples do not show them in {missing[0]}" if missing else None


def _predict(typing: Typing, plan: GroupPlan, seen: Knowledge) -> None:
    """Let the kept channels stand for the others as samples say they can."""
    plan.method = "reconstruct"
    for name, channels in seen.items():
        z = channels.prediction(plan.keep)
        plan.mixing[name] = sparse.csr_array(z)
        if _takes_constants(typing, plan.group, name):
            plan.constants[name] = channels.mean - z @ channels.mean[plan.keep]


def _absorb(
    typing: Typing, plan: GroupPlan, sign: Signature, free: FreeChannels, gone: Array, settings: PlanSettings
) -> None:
    """Decide what takes over the removed channels' share: exact partners of the free ones, similar ones of the rest."""
    group = plan.group
    partner, scale = np.full(group.size, -1), np.ones(group.size)
    partner[gone], scale[gone] = free.partner[gone], free.scale[gone]
    lossy = np.setdiff1d(np.arange(group.size), np.concatenate([plan.keep, gone]))
    plan.method = "prune" if lossy.size else "lossless"
    if settings.method != "prune" and lossy.size:
        blocked = obstacle(group)
        if blocked is None:
            partner[lossy], scale[lossy] = most_similar(sign, plan.keep, lossy, settings.merge)
            if not np.any(partner[lossy] >= 0):
                blocked = f"no kept channel has a cosine of {settings.merge.threshold:g} or more"
            elif not np.any(_drop_impassable(typing, group, partner, scale)[lossy] >= 0):
                blocked = "no scale passes from its producers to its consumers for any pair of channels"
        if blocked is None:
            plan.method = "merge"
        else:
            plan.reason = f"pruned only: {blocked}"
    plan.mixing = _mixing(typing, plan, partner, scale)
    if settings.method != "prune" and lossy.size:
        _restore_means(typing, plan, lossy, recorded_samples(typing, group, settings.norms))


def _drop_impassable(typing: Typing, group: ChannelGroup, partner: Array, scale: Array) -> Array:
    """Unset, in place, the partners whose factor does not survive the way, as a negative one behind a Relu."""
    reference = np.where(partner >= 0, partner, np.arange(group.size))
    error = gains(typing, group, reference, np.where(partner >= 0, scale, 1.0)).error
    partner[np.isinf(error)] = -1
    return partner


def _restore_means(typing: Typing, plan: GroupPlan, lossy: Array, samples: Mapping[str, Sample]) -> None:
    """Move what the consumers lose of the removed channels' means into the constants: c = E x - Z E x_K."""
    for name, z in plan.mixing.items():
        if name in samples and _takes_constants(typing, plan.group, name):
            mean = samples[name].mean
            lost = mean - z @ mean[plan.keep]
            constants = plan.constants.setdefault(name, np.zeros(plan.group.size))
            constants[lossy] += lost[lossy]


def _takes_constants(typing: Typing, group: ChannelGroup, name: str) -> bool:
    """Whether every consumer that reads tensor ``name`` has a bias that can take a constant."""
    return all(takes_constants(typing, step) for step in group.steps if name in step.consumed)


def _removed_constants(free: FreeChannels, gone: Array) -> dict[str, Array]:
    mask = np.isin(np.arange(len(free.partner)), gone)
    values = {name: np.where(mask, value, 0.0) for name, value in free.constants.items()}
    return {name: value for name, value in values.items() if value.any()}


def _mixing(typing: Typing, plan: GroupPlan, partner: Array, scale: Array) -> dict[str, sparse.csr_array]:
    """Z for every tensor that consumers read: each merged channel in its partner's column, with the factor seen there.

    A partner may itself be merged into another: the factors multiply along the chain, which ends at a kept channel.
    """
    group = plan.group
    merged = np.flatnonzero(partner >= 0)
    reference = np.arange(group.size)
    reference[merged] = partner[merged]
    factors = gains(typing, group, reference, np.where(partner >= 0, scale, 1.0)).at
    position = np.full(group.size, -1)
    position[plan.keep] = np.arange(len(plan.keep))
    mixing: dict[str, sparse.csr_array] = {}
    for name in {name for step in group.steps for name in step.consumed}:
        rows, columns, values = list(plan.keep), list(range(len(plan.keep))), [1.0] * len(plan.keep)
        for c in merged:
            factor, target = float(factors[name][c]), int(partner[c])
            while position[target] < 0 and partner[target] >= 0:
                factor, target = factor * float(factors[name][target]), int(partner[target])
            if position[target] >= 0:
                rows.append(int(c))
                columns.append(int(position[target]))
                values.append(factor)
        mixing[name] = sparse.csr_array((values, (rows, columns)), shape=(group.size, len(plan.keep)))
    return mixing
