"""Finds and projects the groups whose channels may be mixed by any matrix: only linear layers and sums meet them.

Such are the narrow tensor between two convolutions without an activation, and a residual stream that no activation and
no norm reads. Selecting channels is then no more than one way to leave K dimensions (`passes.numerics.projection`).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.op_facts import Joins, Moves
from passes.axes.registry import facts_of
from passes.channels.statistics import ChannelStatistics, readers_gram
from passes.graph.model import Array
from passes.numerics.projection import Principal, prediction_from, principal, projection
from passes.numerics.tuning import ProjectionTuning
from passes.planning.compensation import reads_take_constants
from passes.planning.plan import GroupPlan

_MOVES = {Moves.SAME, Moves.RESHAPED, Moves.PERMUTED, Moves.PICKED, Moves.JOINED}


def is_linear(typing: Typing, group: ChannelGroup) -> bool:
    """Whether a matrix that mixes the channels passes through every node between the layers that write and read
    them."""
    return group.unmixable is None and all(_commutes(typing, step) for step in group.steps)


def directions(typing: Typing, group: ChannelGroup, seen: ChannelStatistics, tuning: ProjectionTuning) -> Principal:
    """The most important directions of a linear group, for all its readers together."""
    return principal(_summed(_moments(typing, group, seen)), readers_gram(typing, group, seen), tuning)


def project(typing: Typing, plan: GroupPlan, seen: ChannelStatistics, found: Principal, ridge: float) -> None:
    """Let mixtures take the places of the channels that ``plan`` keeps, and predict all channels from them. ``found``:
    the group's directions; ``ridge``: see `prediction_from`."""
    moments = _moments(typing, plan.group, seen)
    plan.projection = projection(found, _summed(moments), plan.keep)
    plan.constants = {}  # channels that are constant are among the mixed ones
    for name, channels in seen.items():
        z = prediction_from(plan.projection, moments[name], ridge)
        plan.mixing[name] = sparse.csr_array(z)
        if reads_take_constants(typing, plan.group, name):
            plan.constants[name] = channels.mean - z @ (plan.projection @ channels.mean)


def _moments(typing: Typing, group: ChannelGroup, seen: ChannelStatistics) -> dict[str, Array]:
    """Tensor that is read -> second moments (C, C) of the channels, about their means if readers can add a constant."""
    found: dict[str, Array] = {}
    for name, channels in seen.items():
        moments = channels.covariance.dense()
        takes = reads_take_constants(typing, group, name)
        found[name] = moments if takes else moments + np.outer(channels.mean, channels.mean)
    return found


def _summed(moments: dict[str, Array]) -> Array:
    return np.asarray(sum(moments.values()), np.float64)


def _commutes(typing: Typing, step: Step) -> bool:
    node = step.flow.record.node
    facts = facts_of(node.domain, node.op)
    if step.contracted or step.slid or step.prepares or step.feeds_back:
        return False
    constants = {(k, name) for k, name in enumerate(node.inputs) if name in typing.graph.constants}
    used = {(use.k, use.constant) for use in step.uses}
    if facts.linear is not None:
        if facts.linear.convolves and int(node.attrs.get("group", 1)) != 1:
            return False
        weighs = all(use.role is Role.PRODUCER or (use.role is Role.CONSUMER and use.k == 1) for use in step.uses)
        # A bias is part of what is written: without its channels it is one number for all of them.
        written = bool(step.produced)
        return weighs and bool(step.uses) and not step.through and (not written or constants <= used)
    if facts.joins is Joins.SUM:
        # What is added to all channels alike, by broadcasting, is not mixed as they are.
        offsets = {name for _, name in constants & used}
        along = all(set(node.inputs) <= offsets.union(data) for data, _ in step.through)
        return bool(step.through) and along and all(step.is_offset(use) for use in step.uses)
    if step.uses or not step.through:
        return False
    if facts.pool is not None:
        return facts.pool.kind == "mean"
    return facts.moves in _MOVES and (facts.moves is not Moves.JOINED or not constants)
