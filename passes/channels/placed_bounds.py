"""Bounds on the values at each place of a tensor: through ops that move values, join them or map each by itself.

A channel may have many places: a head has a place for each of its columns, and in fused weights some for queries, keys
and values. Bounds of each place by itself show which of them are zero. Other ops take bounds of whole channels
(`passes.channels.value_bounds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from passes.axes import algebra
from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.index_maps import unfold, values_along_axis
from passes.axes.inference import Typing
from passes.axes.op_facts import Joins
from passes.axes.registry import facts_of
from passes.channels.intervals import Interval, added, bounded_where, exactly, multiplied, subtracted, unbounded
from passes.channels.rearrangement import rearranged
from passes.channels.transfer import Mapped, ZeroKept, transfer
from passes.graph.model import Array, Graph, Node

JOINED = (Joins.SUM, Joins.DIFFERENCE, Joins.PRODUCT, Joins.QUOTIENT)


def by_channel(typing: Typing, group: ChannelGroup, name: str, at: Mapping[str, Interval]) -> Interval:
    """Bounds (C,) of the group's channels in tensor ``name``."""
    if name not in at:
        return unbounded(group.size)
    ends: list[Array] = []
    for fold, array in ((np.min, at[name].low), (np.max, at[name].high)):
        found = []
        for axis, term in enumerate(typing.axes[name]):
            if group.atom in algebra.atoms(term):
                line = fold(array, axis=tuple(other for other in range(array.ndim) if other != axis))
                line = np.broadcast_to(line, int(algebra.size(term)))
                found.append(fold(unfold(line, 0, term, group.atom), axis=1))
        ends.append(fold(found, axis=0))
    return Interval(ends[0], ends[1])


def along_axis(typing: Typing, group: ChannelGroup, name: str, channels: Interval) -> Interval:
    """Bounds (C,) of channels at their places in tensor ``name``."""
    axes = typing.axes[name]
    axis = next(axis for axis, term in enumerate(axes) if group.atom in algebra.atoms(term))
    number = values_along_axis(axes[axis], group.atom, np.arange(1.0, group.size + 1)).astype(np.intp)
    held = (number > 0) & (number <= group.size)  # 0: other channels
    c = np.where(held, number - 1, 0)
    low, high = np.where(held, channels.low[c], -np.inf), np.where(held, channels.high[c], np.inf)
    shape = [-1 if other == axis else 1 for other in range(len(axes))]
    return Interval(low.reshape(shape), high.reshape(shape))


def coarsened(typing: Typing, group: ChannelGroup, found: Mapping[str, Interval], most: int) -> dict[str, Interval]:
    """Bounds of tensors by place, where there are at most ``most`` places; else only channels are told apart."""
    return {
        name: interval
        if interval.low.size <= most
        else along_axis(typing, group, name, by_channel(typing, group, name, found))
        for name, interval in found.items()
    }


def known_by_place(typing: Typing, group: ChannelGroup, step: Step, at: Mapping[str, Interval]) -> dict[str, Interval]:
    """Output -> its bounds, where ``step`` moves values, joins them or maps each by itself."""
    found = zip(step.flow.record.node.outputs, _outputs(typing, group, step, at) or (), strict=False)
    return {
        name: interval
        for name, interval in found
        if name and any(group.atom in algebra.atoms(term) for term in typing.axes[name])
    }


def _outputs(typing: Typing, group: ChannelGroup, step: Step, at: Mapping[str, Interval]) -> Sequence[Interval] | None:
    node, graph = step.flow.record.node, typing.graph
    joins = facts_of(node.domain, node.op).joins
    several = joins in JOINED or joins is Joins.CONCATENATION
    operands = [_operand(graph, at, name) for name in (node.inputs if several else node.inputs[:1])]
    if any(graph.shape(name) is None for name in (*node.inputs, *node.outputs) if name):
        return None
    if joins in JOINED:
        return None if node.outputs[0] in graph.integers else _joined(graph, node, joins, operands)
    low, high = (rearranged(graph, node, ends) for ends in ([o.low for o in operands], [o.high for o in operands]))
    if low is not None and high is not None:
        return [Interval(*ends) for ends in zip(low, high, strict=True)]
    if [data for data, _ in step.through] != [[node.inputs[0]]]:
        return None
    match transfer(typing, group, step, 1):
        case Mapped(function, monotone=True):
            return [Interval(function(operands[0].low), function(operands[0].high))]
        case Mapped(function):
            value = operands[0].low
            constant = np.isfinite(value) & (value == operands[0].high)
            return [bounded_where(constant, function(np.where(constant, value, 0.0)))]
        case ZeroKept(by_place=True):
            return [bounded_where(operands[0].zero, np.zeros(operands[0].low.shape))]
    return None


def _operand(graph: Graph, at: Mapping[str, Interval], name: str) -> Interval:
    if name in at:
        return at[name]
    if name in graph.constants and graph.knows(name) and graph.array(name).dtype.kind in "fiub":
        return exactly(graph.array(name))
    return unbounded(*(1 for _ in graph.shape(name) or ()))


def _joined(graph: Graph, node: Node, joins: Joins, operands: Sequence[Interval]) -> list[Interval] | None:
    """Operands broadcast from the right."""
    match joins:
        case Joins.SUM:
            return [added(operands)]
        case Joins.DIFFERENCE:
            return [subtracted(*operands)]
        case Joins.PRODUCT:
            return [reduce(multiplied, operands)]
        case _ if node.inputs[1] in graph.constants and operands[1].constant.all() and (operands[1].low != 0).all():
            return [multiplied(operands[0], exactly(1.0 / operands[1].low))]
    return None
