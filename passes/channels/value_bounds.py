"""Computes bounds on the values of channels that hold for every input.

A channel whose weights are all zero is constant. A channel lies below its bias if its inputs are never negative and its
weights are never positive. Behind a Relu such a channel may be constant zero: dead. Bounds are propagated through ops
whose effect on an interval is known. Any other op makes a channel unbounded. The spread that a folded
BatchNormalization recorded bounds a channel too, see `RedundancyTuning.recorded_deviations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing, Use
from passes.axes.op_facts import Joins
from passes.axes.registry import facts_of
from passes.channels.transfer import Filtered, Joined, Kept, Mapped, Scaled, ZeroKept, transfer
from passes.channels.weights import along_outputs, unfolded
from passes.graph.model import Array, Graph
from passes.settings.transform_tuning import RedundancyTuning
from passes.settings.tuning import TUNING
from passes.transforms.fold_batchnorm import FoldedNorm


@dataclass(frozen=True)
class Interval:
    """Lowest and highest value of each channel, both (C,) float64."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """Channels that have one value only, (C,) bool."""
        with np.errstate(invalid="ignore"):
            width, size = self.high - self.low, np.maximum(np.abs(self.low), np.abs(self.high))
        return np.asarray(np.isfinite(size) & (width <= TUNING.redundancy.constant_width * size))

    @property
    def middle(self) -> Array:
        """Value of each constant channel, 0 for the others, (C,)."""
        low, high = (np.where(self.constant, end, 0.0) for end in (self.low, self.high))
        return np.asarray((low + high) / 2)


def unbounded(channels: int) -> Interval:
    """The unbounded interval of every channel."""
    return Interval(np.full(channels, -np.inf), np.full(channels, np.inf))


def _hull(intervals: list[Interval]) -> Interval:
    """For each channel, the smallest interval that contains all the given ones."""
    return Interval(np.min([i.low for i in intervals], axis=0), np.max([i.high for i in intervals], axis=0))


def nonnegative_tensors(graph: Graph) -> set[str]:
    """Tensors that never hold a negative value, by the facts of each op."""
    found = {name for name in graph.initializers if _is_small_and_nonnegative(graph, name)}
    for node in graph.nodes:
        facts = facts_of(node.domain, node.op)
        never = min(facts.values(graph, node) or (-1.0,)) >= 0
        data = node.inputs if facts.joins is not None else node.inputs[:1]
        if never or (facts.keeps_sign and all(n in found for n in data if n)):
            found.update(name for name in node.outputs if name not in graph.integers)  # integers wrap around
    return found


def _is_small_and_nonnegative(graph: Graph, name: str) -> bool:
    value = graph.info.values.get(name)
    return value is not None and value.dtype.kind == "f" and float(np.min(value, initial=0.0)) >= 0.0


def channel_intervals(
    typing: Typing,
    group: ChannelGroup,
    nonnegative: set[str],
    norms: Mapping[str, FoldedNorm],
    tuning: RedundancyTuning = TUNING.redundancy,
) -> dict[str, Interval]:
    """Intervals of the group's channels in every tensor that carries them."""
    at: dict[str, Interval] = {}
    for step in group.steps:
        made = _recorded(typing, group, step, norms, _produced(typing, group, step, nonnegative), tuning)
        for name in step.produced:
            at[name] = made
        written = {*step.produced}
        for data, outputs in step.through:
            incoming = [at.get(name, unbounded(group.size)) for name in data]
            passed = _passed(typing, group, step, incoming)
            for name in outputs:  # a concat of two readers of shared weights may hold the channel twice
                at[name] = _hull([passed, at[name]]) if name in written else passed
            written.update(outputs)
    return at


def _produced(typing: Typing, group: ChannelGroup, step: Step, nonnegative: set[str]) -> Interval:
    node = step.flow.record.node
    uses = step.with_role(Role.PRODUCER)
    plain = facts_of(node.domain, node.op).linear is not None and float(node.attrs.get("alpha", 1.0)) > 0
    carried = {use.k for use in uses}
    if any(k in step.flow.record.offsets and k not in carried and name for k, name in enumerate(node.inputs)):
        return unbounded(group.size)
    if not all(typing.graph.knows(use.constant) for use in uses):
        return unbounded(group.size)
    if not plain:
        return _zero_or_unbounded(typing, group, step)
    beta = float(node.attrs.get("beta", 1.0))
    low, high, bias = np.zeros(group.size), np.zeros(group.size), np.zeros(group.size)
    spread = np.zeros(group.size, bool)
    for use in uses:
        values = unfolded(typing, group, use)
        if step.is_offset(use):
            bias = bias + beta * values[:, 0].astype(np.float64)
            spread |= np.ptp(values, axis=1) > 0  # a channel with several biases (a composite axis) has several values
            continue
        sign_known = any(name in nonnegative for k, name in enumerate(node.inputs) if k != use.k and k < 2)
        least, most = _range(values)
        zero = (least == 0) & (most == 0)
        low = np.where((least >= 0) & sign_known | zero, low, -np.inf)
        high = np.where((most <= 0) & sign_known | zero, high, np.inf)
    return Interval(np.where(spread, -np.inf, low + bias), np.where(spread, np.inf, high + bias))


def _zero_or_unbounded(typing: Typing, group: ChannelGroup, step: Step) -> Interval:
    """Zero for channels that a zero factor makes, and to which nothing is added, of a node that scales them by it."""
    node, making, uses = step.flow.record.node, step.flow.record.making, step.with_role(Role.PRODUCER)
    carried = {use.k for use in uses}
    if making is None or not carried <= making.factors | making.terms:
        return unbounded(group.size)
    if any(k in making.terms and k not in carried and name for k, name in enumerate(node.inputs)):
        return unbounded(group.size)
    zero = {use.k: ~unfolded(typing, group, use).any(axis=1) for use in uses}
    factors = [zero[k] for k in carried & making.factors]
    dead = np.any(factors, axis=0) if factors else np.zeros(group.size, bool)
    dead = dead & np.all([zero[k] for k in carried & making.terms] or [dead], axis=0)
    return _where(dead, np.zeros(group.size))


def _recorded(
    typing: Typing,
    group: ChannelGroup,
    step: Step,
    norms: Mapping[str, FoldedNorm],
    made: Interval,
    tuning: RedundancyTuning,
) -> Interval:
    """``made``, narrowed by the spread that a folded norm recorded for the channel."""
    for use in step.with_role(Role.PRODUCER):
        if use.constant in norms and not step.is_offset(use):
            norm = norms[use.constant]
            mean, std = (along_outputs(typing, group, step, v) for v in (norm.mean, norm.std))
            reach = tuning.recorded_deviations * std
            low, high = (mean - reach).min(axis=1), (mean + reach).max(axis=1)
            low, high = np.maximum(made.low, low), np.minimum(made.high, high)
            apart = low > high  # the recorded statistics belong to other weights
            made = Interval(np.where(apart, made.low, low), np.where(apart, made.high, high))
    return made


def _range(values: Array) -> tuple[Array, Array]:
    """Smallest and largest value of each row (C, D), exact where they have one sign; zeros where D is 0. Some elements
    of a row settle most rows."""
    if not values.shape[1]:
        return np.zeros(len(values)), np.zeros(len(values))
    glance = values[:, :: max(1, values.shape[1] // 32)]
    least, most = glance.min(axis=1), glance.max(axis=1)
    open_rows = np.flatnonzero((least >= 0) | (most <= 0))
    if open_rows.size:
        least[open_rows], most[open_rows] = values[open_rows].min(axis=1), values[open_rows].max(axis=1)
    return least, most


def _passed(typing: Typing, group: ChannelGroup, step: Step, incoming: list[Interval]) -> Interval:
    match transfer(typing, group, step, len(incoming)):
        case Kept(beside, padded=False):
            return _hull([*incoming, *(_constants(typing, group, use) for use in beside)])
        case Joined(Joins.SUM):
            return Interval(np.sum([i.low for i in incoming], axis=0), np.sum([i.high for i in incoming], axis=0))
        case Joined(Joins.DIFFERENCE):  # of two, in either order
            first, second = incoming
            low, high = first.low - second.high, first.high - second.low
            return _hull([Interval(low, high), Interval(-high, -low)])
        case Joined(Joins.PRODUCT):
            return reduce(_product, incoming)
        case Scaled(a, t):
            return _affine(incoming[0], a, t)
        case Mapped(function, monotone=True):
            return Interval(function(incoming[0].low), function(incoming[0].high))
        case Mapped(function):
            value = incoming[0].low
            constant = np.isfinite(value) & (value == incoming[0].high)
            return _where(constant, function(np.where(constant, value, 0.0)))
        case Filtered(empty, t):
            return _where(_is_zero(incoming[0]) | empty, t)
        case ZeroKept():
            return _where(_is_zero(incoming[0]), np.zeros(group.size))
    return unbounded(group.size)


def _is_zero(interval: Interval) -> Array:
    return np.asarray((interval.low == 0) & (interval.high == 0))


def _where(known: Array, values: Array) -> Interval:
    """``values`` (C,) of the channels ``known`` (C,); the others have no bounds."""
    return Interval(np.where(known, values, -np.inf), np.where(known, values, np.inf))


def _constants(typing: Typing, group: ChannelGroup, use: Use) -> Interval:
    """The values of each channel in a constant that is joined to the data, as in a Concat."""
    values = unfolded(typing, group, use).astype(np.float64)
    return Interval(values.min(axis=1), values.max(axis=1))


def _product(first: Interval, second: Interval) -> Interval:
    given = np.stack([first.low, first.high, second.low, second.high])
    with np.errstate(invalid="ignore"):
        ends = np.stack([given[i] * given[k] for i in (0, 1) for k in (2, 3)])
    known = ~np.isnan(given).any(axis=0)
    ends = np.where(np.isnan(ends) & known, 0.0, ends)  # zero times a value that has no bound, and is finite
    return Interval(ends.min(axis=0), ends.max(axis=0))


def _affine(interval: Interval, a: Array, t: Array) -> Interval:
    with np.errstate(invalid="ignore"):
        ends = np.stack([interval.low, interval.high]) * a
    ends = np.where(a == 0, 0.0, ends) + t  # 0 times infinity is 0 here: the weight is exactly zero
    return Interval(ends.min(axis=0), ends.max(axis=0))
