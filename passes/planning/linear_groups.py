"""Finds the groups whose channels may be mixed by any matrix, since only linear layers and sums meet them.

Such are the narrow tensor between two convolutions without an activation, and a residual stream that no activation and
no norm reads. Selecting channels is then no more than one way to leave K dimensions.
"""

from __future__ import annotations

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.op_facts import Joins, Moves
from passes.axes.registry import facts_of

_MOVES = {Moves.SAME, Moves.RESHAPED, Moves.PERMUTED, Moves.PICKED, Moves.JOINED}


def is_linear(typing: Typing, group: ChannelGroup) -> bool:
    """Whether a matrix that mixes the channels passes through every node between the layers that write and read
    them."""
    return group.unmixable is None and all(_commutes(typing, step) for step in group.steps)


def _commutes(typing: Typing, step: Step) -> bool:
    node = step.flow.record.node
    facts = facts_of(node.domain, node.op)
    if step.contracted or step.slid or step.prepares or step.feeds_back or any(not n for n in node.outputs[:1]):
        return False
    constants = {(k, name) for k, name in enumerate(node.inputs) if name in typing.graph.constants}
    used = {(use.k, use.constant) for use in step.uses}
    if facts.linear is not None:
        if facts.linear.convolves and int(node.attrs.get("group", 1)) != 1:
            return False
        weighs = all(use.k == 1 if use.role is Role.CONSUMER else _is_own(use.role) for use in step.uses)
        # A bias is part of what is written: without its channels it is one number for all of them.
        written = bool(step.produced)
        return weighs and bool(step.uses) and not step.through and (not written or constants <= used)
    if facts.joins is Joins.SUM:
        return constants <= used and all(step.is_offset(use) for use in step.uses)
    if step.uses or not step.through:
        return False
    if facts.pool is not None:
        return facts.pool.kind == "mean"
    return facts.moves in _MOVES and (facts.moves is not Moves.JOINED or not constants)


def _is_own(role: Role) -> bool:
    return role is Role.PRODUCER
