"""Computes bounds on the values of channels that hold for every input.

A channel whose weights are all zero is constant. A channel lies below its bias if its inputs are never negative and its
weights are never positive. Behind a Relu such a channel may be constant zero: dead. Bounds are propagated through ops
whose effect on an interval is known. Any other op makes a channel unbounded. The spread that a folded
BatchNormalization recorded bounds a channel too, see `RedundancyTuning.recorded_deviations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from passes.axes import algebra
from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing, Use
from passes.axes.registry import facts_of
from passes.channels.intervals import Interval, affine, bounded_where, enclosing, unbounded
from passes.channels.placed_bounds import along_axis, by_channel, coarsened, known_by_place
from passes.channels.transfer import Filtered, Kept, Scaled, ZeroKept, transfer
from passes.channels.weights import along_outputs, unfolded
from passes.graph.model import Array, Graph
from passes.settings.transform_tuning import RedundancyTuning
from passes.settings.tuning import TUNING
from passes.transforms.fold_batchnorm import FoldedNorm


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
    """Intervals (C,) of the group's channels in every tensor that carries them."""
    at: dict[str, Interval] = {}
    # Shapes of a model with a rigid batch are those of a batch of one, whose places are not those of others.
    most = tuning.most_places if typing.graph.info.rigid is None else 0
    for step in group.steps:
        made = coarsened(typing, group, _made(typing, group, step, nonnegative, norms, tuning), most)
        placed = coarsened(typing, group, known_by_place(typing, group, step, at), most) if step.through else {}
        at |= made | placed
        written = {*made, *placed}
        for data, outputs in step.through:
            waiting = [name for name in outputs if name not in placed]
            passed = _passed(typing, group, step, data, at) if waiting else unbounded(group.size)
            for name in waiting:  # a concat of two readers of shared weights may hold the channel twice
                here = along_axis(typing, group, name, passed)
                at[name] = enclosing([here, at[name]]) if name in written else here
            written.update(outputs)
    return {name: by_channel(typing, group, name, at) for name in at}


def _made(
    typing: Typing,
    group: ChannelGroup,
    step: Step,
    nonnegative: set[str],
    norms: Mapping[str, FoldedNorm],
    tuning: RedundancyTuning,
) -> dict[str, Interval]:
    """Bounds of the outputs that ``step`` produces: of each place of a layer's outputs, else of whole channels."""
    if not step.produced:
        return {}
    axis = _outputs_axis(typing, group, step)
    if axis is None or any(use.constant in norms for use in step.uses):
        made = _produced(typing, step, nonnegative, lambda use: unfolded(typing, group, use), group.size)
        made = _recorded(typing, group, step, norms, made, tuning)
        return {name: along_axis(typing, group, name, made) for name in step.produced}
    axes = typing.axes[step.produced[0]]
    size = int(algebra.size(axes[axis]))
    made = _produced(typing, step, nonnegative, lambda use: _by_place(typing, use, size), size)
    shape = [-1 if other == axis else 1 for other in range(len(axes))]
    return {step.produced[0]: Interval(made.low.reshape(shape), made.high.reshape(shape))}


def _outputs_axis(typing: Typing, group: ChannelGroup, step: Step) -> int | None:
    """The axis of a layer's output that its weights and biases have too. None if there is no such axis."""
    node = step.flow.record.node
    if len({*step.produced}) != 1 or facts_of(node.domain, node.op).linear is None:
        return None
    terms = [algebra.resolve(term) for term in typing.axes[step.produced[0]]]
    held = [axis for axis, term in enumerate(terms) if group.atom in algebra.atoms(term)]
    own = [algebra.resolve(typing.axes[use.constant][use.axis]) for use in step.with_role(Role.PRODUCER)]
    return held[0] if len(held) == 1 and own and all(term == terms[held[0]] for term in own) else None


def _by_place(typing: Typing, use: Use, size: int) -> Array:
    """All values of a constant for each place of its axis, (P, D)."""
    return np.moveaxis(typing.graph.array(use.constant), use.axis, 0).reshape(size, -1)


def _produced(typing: Typing, step: Step, nonnegative: set[str], rows: Callable[[Use], Array], size: int) -> Interval:
    """Bounds (P,) of what a layer makes; ``rows``: the values (P, D) of a constant."""
    node = step.flow.record.node
    uses = step.with_role(Role.PRODUCER)
    plain = facts_of(node.domain, node.op).linear is not None and float(node.attrs.get("alpha", 1.0)) > 0
    carried = {use.k for use in uses}
    if any(k in step.flow.record.offsets and k not in carried and name for k, name in enumerate(node.inputs)):
        return unbounded(size)
    if not all(typing.graph.knows(use.constant) for use in uses):
        return unbounded(size)
    if not plain:
        return _zero_or_unbounded(step, rows, size)
    beta = float(node.attrs.get("beta", 1.0))
    low, high, bias = np.zeros(size), np.zeros(size), np.zeros(size)
    spread = np.zeros(size, bool)
    for use in uses:
        values = rows(use)
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


def _zero_or_unbounded(step: Step, rows: Callable[[Use], Array], size: int) -> Interval:
    """Zero for channels that a zero factor makes, and to which nothing is added, of a node that scales them by it."""
    node, making, uses = step.flow.record.node, step.flow.record.making, step.with_role(Role.PRODUCER)
    carried = {use.k for use in uses}
    if making is None or not carried <= making.factors | making.terms:
        return unbounded(size)
    if any(k in making.terms and k not in carried and name for k, name in enumerate(node.inputs)):
        return unbounded(size)
    zero = {use.k: ~rows(use).any(axis=1) for use in uses}
    factors = [zero[k] for k in carried & making.factors]
    dead = np.any(factors, axis=0) if factors else np.zeros(size, bool)
    dead = dead & np.all([zero[k] for k in carried & making.terms] or [dead], axis=0)
    return bounded_where(dead, np.zeros(size))


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


def _passed(typing: Typing, group: ChannelGroup, step: Step, data: list[str], at: Mapping[str, Interval]) -> Interval:
    """Bounds (C,) behind an op that needs whole channels."""
    incoming = [by_channel(typing, group, name, at) for name in data]
    match transfer(typing, group, step, len(incoming)):
        case Kept(beside, padded=False):
            return enclosing([*incoming, *(_constants(typing, group, use) for use in beside)])
        case Kept([], padded=True):
            return bounded_where(incoming[0].zero, np.zeros(group.size))
        case Scaled(a, t):
            return affine(incoming[0], a, t)
        case Filtered(empty, t):
            return bounded_where(incoming[0].zero | empty, t)
        case ZeroKept():
            return bounded_where(incoming[0].zero, np.zeros(group.size))
    return bounded_where(_multiplied_by_zero(typing, group, step, dict(zip(data, incoming, strict=True))), np.zeros(1))


def _multiplied_by_zero(typing: Typing, group: ChannelGroup, step: Step, incoming: Mapping[str, Interval]) -> Array:
    """Channels (C,) that are zero in an operand that the op is linear in."""
    node, zero = step.flow.record.node, np.zeros(group.size, bool)
    linear_in = facts_of(node.domain, node.op).linear_in
    for k, name in enumerate(node.inputs):
        if k in linear_in and name in incoming:
            zero |= incoming[name].zero
    for use in step.with_role(Role.CHANNEL):
        if use.k in linear_in and typing.graph.knows(use.constant):
            zero |= ~unfolded(typing, group, use).any(axis=1)
    return zero


def _constants(typing: Typing, group: ChannelGroup, use: Use) -> Interval:
    """The values of each channel in a constant that is joined to the data, as in a Concat."""
    values = unfolded(typing, group, use).astype(np.float64)
    return Interval(values.min(axis=1), values.max(axis=1))
