"""Compensates removed channels by weights alone: merges them into kept channels and moves means into biases."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.batchnorm_moments import QuadratureDistribution, recorded_distributions
from passes.channels.redundant import RedundantChannels, disagreement, takes_constants
from passes.channels.scale_propagation import gains, obstacle
from passes.channels.weights import Signature
from passes.graph.model import Array
from passes.interface.reason import planned
from passes.planning.neuron_merging import most_similar
from passes.planning.plan import GroupPlan, PlanSettings


def compensate(
    typing: Typing, plan: GroupPlan, sign: Signature, redundant: RedundantChannels, gone: Array, settings: PlanSettings
) -> None:
    """Choose the compensation: exact partners for redundant channels, similar kept channels for the others."""
    group = plan.group
    partner, scale = np.full(group.size, -1), np.ones(group.size)
    partner[gone], scale[gone] = redundant.partner[gone], redundant.scale[gone]
    lossy = np.setdiff1d(np.arange(group.size), np.concatenate([plan.keep, gone]))
    plan.method = "prune" if lossy.size else "lossless"
    if settings.method != "prune" and lossy.size:
        blocked = group.unmergeable or obstacle(group)
        if blocked is None:
            match = settings.tuning.numerics.match
            partner[lossy], scale[lossy] = most_similar(sign, plan.keep, lossy, settings.merge, match)
            if not np.any(partner[lossy] >= 0):
                blocked = planned(f"no kept channel has a cosine of {settings.merge.threshold:g} or more")
            elif not np.any(_drop_impassable(typing, group, partner, scale, settings)[lossy] >= 0):
                nowhere = planned("no scale passes from its producers to its consumers for any pair of channels")
                blocked = group.unmixable or nowhere
        if blocked is None:
            plan.method = "merge"
        else:
            plan.reason = planned("pruned only", blocked)
    plan.mixing = _mixing(typing, plan, partner, scale)
    if settings.method != "prune" and lossy.size and group.unmixable is None:
        _restore_means(typing, plan, lossy, recorded_distributions(typing, group, settings.norms))


def _drop_impassable(
    typing: Typing, group: ChannelGroup, partner: Array, scale: Array, settings: PlanSettings
) -> Array:
    """Remove, in place, partners whose factor does not pass to the consumers, as a negative one through a Relu, or
    arrives as another one at each of several that share weights."""
    reference = np.where(partner >= 0, partner, np.arange(group.size))
    passed = gains(typing, group, reference, np.where(partner >= 0, scale, 1.0))
    unlike = disagreement(group, passed.at) > settings.tuning.redundancy.parallel_tolerance
    partner[np.isinf(passed.error) | unlike] = -1
    return partner


def _restore_means(
    typing: Typing, plan: GroupPlan, lossy: Array, samples: Mapping[str, QuadratureDistribution]
) -> None:
    """Add the lost part of the removed channels' means to the constants: c = E x - Z E x_K."""
    for name, z in plan.mixing.items():
        if name in samples and reads_take_constants(typing, plan.group, name):
            mean = samples[name].mean
            lost = mean - z @ mean[plan.keep]
            constants = plan.constants.setdefault(name, np.zeros(plan.group.size))
            constants[lossy] += lost[lossy]


def reads_take_constants(typing: Typing, group: ChannelGroup, name: str) -> bool:
    """Whether every consumer of tensor ``name`` has a bias to which a constant can be added."""
    return all(takes_constants(typing, step) for step in group.steps if name in step.consumed)


def removed_constants(redundant: RedundantChannels, gone: Array) -> dict[str, Array]:
    """Tensor -> (C,) values of the removed constant channels, zeros elsewhere."""
    mask = np.isin(np.arange(len(redundant.partner)), gone)
    values = {name: np.where(mask, value, 0.0) for name, value in redundant.constants.items()}
    return {name: value for name, value in values.items() if value.any()}


def _mixing(typing: Typing, plan: GroupPlan, partner: Array, scale: Array) -> dict[str, sparse.csr_array]:
    """Z for every tensor that consumers read: each merged channel has its factor in the column of its partner.

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
