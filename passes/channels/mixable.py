"""Tells through which nodes a matrix that mixes the channels of a group passes: linear layers, sums, moves, means."""

from __future__ import annotations

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import Step
from passes.axes.inference import Role, Typing
from passes.axes.op_facts import Joins, Moves, OpFacts, PoolWindow
from passes.axes.registry import facts_of
from passes.axes.rule_context import Scaling

_MOVES = {Moves.SAME, Moves.RESHAPED, Moves.PERMUTED, Moves.PICKED, Moves.GATHERED, Moves.REPEATED}


def mixes(typing: Typing, step: Step, atom: Atom) -> bool:
    """Whether y = f(x) implies A y = f(A x) for every matrix A over the channels: where the node makes them, A can be
    put into its constants; where it reads them, the inverse can. ``atom``: the channels."""
    node = step.flow.record.node
    facts = facts_of(node.domain, node.op)
    if step.contracted or step.slid or step.feeds_back or step.normalises:
        return False
    if step.prepares:
        return _moves_table(step, facts)
    places = [typing.axes[node.outputs[0]][axis] for _, axis in step.flow.record.listed]
    if any(atom in algebra.atoms(term) for term in places):
        return False  # picks its channels in another order
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
    if facts.moves is Moves.JOINED:
        return bool(step.through) and constants <= used
    if not step.through:  # a table, of which rows are picked or repeated
        return _moves_table(step, facts)
    if step.uses:
        return False
    if facts.pool is not None:
        return facts.pool.kind == "mean"
    if facts.joins in (Joins.PRODUCT, Joins.QUOTIENT):  # by a factor for all channels of a place
        scaled = [name for data, _ in step.through for name in data]
        return len(scaled) == 1 and (facts.joins is Joins.PRODUCT or scaled == [node.inputs[0]])
    return facts.moves in _MOVES or _is_other_float(step, facts)


def carries(step: Step) -> bool:
    """Whether the node gives values that it is given, or means of them: affine maps of the channels pass too."""
    node = step.flow.record.node
    facts = facts_of(node.domain, node.op)
    pools = facts.pool is not None and facts.pool.kind == "mean" and facts.pool.window is not PoolWindow.KERNEL
    return facts.moves in _MOVES or _is_other_float(step, facts) or pools


def _is_other_float(step: Step, facts: OpFacts) -> bool:
    return facts.moves is Moves.CONVERTED and step.scaling is Scaling.LINEAR


def _moves_table(step: Step, facts: OpFacts) -> bool:
    """Whether rows of a constant are picked, moved or repeated."""
    return facts.moves in _MOVES and bool(step.produced) and not step.through and {u.k for u in step.uses} == {0}
