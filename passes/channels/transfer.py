"""The effect of one node on a channel's values, in the few forms that every analysis of values handles.

The forms come from the op's facts (`passes.axes.op_facts`). An analysis states what each form does to an interval
(`passes.channels.value_bounds`) or to a distribution (`passes.channels.batchnorm_moments`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing, Use
from passes.axes.op_facts import Activation, Function, Joins, OpFacts
from passes.axes.registry import facts_of
from passes.axes.rule_context import Scaling
from passes.channels.weights import along_channels, unfolded
from passes.graph.model import Array, Graph, Node


@dataclass(frozen=True)
class Kept:
    """The channel's own values, or means of them, and those of the constants ``beside``. ``padded``: zeros count in the
    means."""

    beside: list[Use]
    padded: bool


@dataclass(frozen=True)
class Joined:
    """All data operands at once, elementwise: their sum, product or difference."""

    how: Joins


@dataclass(frozen=True)
class Scaled:
    """a x + t with a and t (C,) float64. ``norm``: the op is a BatchNormalization, else it has one constant."""

    a: Array
    t: Array
    norm: bool = False


@dataclass(frozen=True)
class Mapped:
    """A function of each value. ``monotone``: it never decreases."""

    function: Function
    monotone: bool


@dataclass(frozen=True)
class ZeroKept:
    """A function that is not known in a closed form, but leaves zero as it is. ``by_place``: it maps each value by
    itself. Else it may depend on several places, and on data that do not hold the channel."""

    by_place: bool = True


@dataclass(frozen=True)
class Filtered:
    """t (C,) float64, plus the channel filtered by weights of its own: convolved, or normalised and scaled. ``empty``
    (C,): whether these are all zero."""

    empty: Array
    t: Array


Transfer = Kept | Joined | Scaled | Mapped | ZeroKept | Filtered


def transfer(typing: Typing, group: ChannelGroup, step: Step, incoming: int) -> Transfer | None:
    """The form in which ``step`` transforms a channel that reaches it in ``incoming`` data operands. None if it has
    none of these forms."""
    node, graph = step.flow.record.node, typing.graph
    facts = facts_of(node.domain, node.op)
    if any(use.constant not in graph.initializers or use.role is not Role.CHANNEL for use in step.uses):
        return None
    if facts.convex_hull or (facts.pool is not None and facts.pool.kind == "mean"):
        return Kept(step.uses, padded=not facts.in_convex_hull(node))
    if facts.affine is not None and step.uses:
        affine = facts.affine(graph, node)
        a, t = (along_channels(typing, group, step.uses[0], v) for v in (affine.a, affine.t))
        return Scaled(a[:, 0], t[:, 0], norm=True) if a.shape[1] == 1 else None
    if facts.scale_and_bias is not None or (facts.linear is not None and facts.linear.convolves):
        return _filtered(typing, group, step, *(facts.scale_and_bias or (1, 2)))
    if facts.joins in (Joins.SUM, Joins.PRODUCT, Joins.DIFFERENCE):
        if not step.uses and incoming == len(node.inputs):
            return Joined(facts.joins)
        if len(step.uses) == incoming == 1 and len(node.inputs) == 2:
            values = unfolded(typing, group, step.uses[0]).astype(np.float64)
            if values.shape[1] == 1:
                one, zero = np.ones(group.size), np.zeros(group.size)
                match facts.joins:
                    case Joins.SUM:
                        return Scaled(one, values[:, 0])
                    case Joins.PRODUCT:
                        return Scaled(values[:, 0], zero)
                    case Joins.DIFFERENCE:
                        return Scaled(one, -values[:, 0]) if step.uses[0].k == 1 else Scaled(-one, values[:, 0])
    if incoming == 1 and not step.uses and facts.joins is not None:
        scalar = _with_scalar(graph, node, facts.joins)
        if scalar is not None:
            factor, summand = (np.full(group.size, value) for value in scalar)
            return Scaled(factor, summand)
    function = None if facts.function is None or step.uses else facts.function.of(graph, node)
    if facts.function is not None and function is not None:
        return Mapped(function, facts.function.monotone)
    if facts.activation is Activation.SWITCH:
        return ZeroKept()
    return ZeroKept(by_place=False) if incoming == 1 and _keeps_zero(graph, step, facts) else None


def _keeps_zero(graph: Graph, step: Step, facts: OpFacts) -> bool:
    """Whether zeros of the one data operand that holds the channel stay zeros, whatever finite values the other has."""
    node, record = step.flow.record.node, step.flow.record
    if step.uses:
        return False
    if facts.joins in (Joins.PRODUCT, Joins.QUOTIENT):
        return facts.joins is Joins.PRODUCT or all(node.inputs[0] in data for data, _ in step.through)
    others = {name for k, name in enumerate(node.inputs) if k and name and k not in facts.sizing}
    return record.scaling >= Scaling.HOMOGENEOUS and all(
        graph.is_number(n) and not graph.array(n).any() for n in others
    )


def _filtered(typing: Typing, group: ChannelGroup, step: Step, weight: int, bias: int) -> Filtered | None:
    """The form of a depthwise convolution or a norm with the inputs ``weight`` and ``bias``: a kernel or a number for
    each channel, and a number."""
    weights, biases = ([unfolded(typing, group, use) for use in step.uses if use.k == k] for k in (weight, bias))
    given = len(step.flow.record.node.inputs) > bias and bool(step.flow.record.node.inputs[bias])
    if len(weights) != 1 or len(biases) != given or any(values.shape[1] != 1 for values in biases):
        return None
    t = biases[0][:, 0].astype(np.float64) if biases else np.zeros(group.size)
    return Filtered(np.asarray(~weights[0].any(axis=1)), t)


def _with_scalar(graph: Graph, node: Node, joins: Joins) -> tuple[float, float] | None:
    """The factor and the summand of a node that joins one number to the data. None where it is no such node."""
    if len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return None
    known = [k for k, name in enumerate(node.inputs) if graph.is_number(name)]
    if len(known) != 1:
        return None
    number = float(graph.array(node.inputs[known[0]]).item())
    match joins:
        case Joins.SUM:
            return 1.0, number
        case Joins.DIFFERENCE:
            return (1.0, -number) if known == [1] else (-1.0, number)
        case Joins.PRODUCT:
            return number, 0.0
        case Joins.QUOTIENT if known == [1] and number != 0.0:
            return 1.0 / number, 0.0
    return None
