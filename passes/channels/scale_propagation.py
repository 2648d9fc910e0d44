"""Computes how a scale on a channel travels from its producers to its consumers.

Suppose that the producers make channel i as s times channel j. Behind linear and positively homogeneous ops, channel i
is still a multiple of channel j. The constants that multiply the two channels, or are added to them, decide the factor.
`gains` follows this factor through a group, node by node, for one partner of each channel. The consumers' weights are
then multiplied by the factor that arrives there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing, Use
from passes.axes.op_facts import Joins
from passes.axes.registry import facts_of
from passes.axes.rule_context import Scaling
from passes.channels.weights import along_channels, unfolded
from passes.graph.kinds import inferred_types
from passes.graph.model import Array, Node
from passes.interface.reason import Reason

TINY = 1e-30
NARROW = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
ADDING = (Joins.SUM, Joins.DIFFERENCE, Joins.MEAN, Joins.EXTREMUM, Joins.CHOICE)
"""Joins of operands that must all have the channel's scale."""
HALF = 2.0**-11
"""Relative error of rounding to float16. The error of bfloat16 is larger."""


@dataclass
class Gains:
    """``at``: tensor -> (C,) factor of each channel over its partner. ``error`` (C,): largest relative deviation from
    an exact multiple on the way, infinite where no factor is right."""

    at: dict[str, Array] = field(default_factory=dict)
    error: Array = field(default_factory=lambda: np.zeros(0))


def obstacle(group: ChannelGroup) -> Reason | None:
    """The first node that passes no scale on, or whose constants do not scale its channels, as a reason. None if there
    is no such node."""
    for step in group.steps:
        made = unscaled(step)
        if made is not None:
            return made
        if step.through and step.scaling is Scaling.NONE:
            return Reason("scale", step.label, "", step.flow.record.node.op)
    return None


def unscaled(step: Step) -> Reason | None:
    """Why a scale on a node's constants is not a scale on the channels that it makes of them. None if it is one.

    There is no such reason where all channels are made alike, by no constant of their own: see `gains`.
    """
    uses = step.with_role(Role.PRODUCER)
    if not step.produced or step.prepares or not uses:
        return None
    node, making = step.flow.record.node, step.flow.record.making
    here = Reason("operator", step.label, "", node.op)
    factors = [use for use in uses if making is not None and use.k in making.factors]
    if making is None or not (factors or any(use.k in making.terms for use in uses)):
        return here.saying("makes them of constants whose scale it does not pass on")
    if len(factors) > 1:
        return here.saying("makes them of two constants at once")
    given = {k for k in making.terms if k < len(node.inputs) and node.inputs[k]}
    if not factors and given - {use.k for use in uses}:
        return here.saying("adds the same to all of them")
    return None


def gains(typing: Typing, group: ChannelGroup, partner: Array, scale: Array) -> Gains:
    """Factors of channels over their partners when the producers make channel i as ``scale[i]`` times ``partner[i]``.

    ``partner`` (C,): channel indices. ``scale`` (C,). The producers' weights are not examined: the caller must know
    whether channels are multiples of each other there.
    """
    result = Gains(error=np.zeros(group.size))
    jumping = False
    for step in group.steps:
        if step.produced and not step.prepares:
            _scale_produced(typing, group, step, partner, scale, result)
        elif step.produced:
            result.at.update((name, scale) for name in step.produced)
        integers = step.flow.record.node.outputs[0] in typing.graph.integers
        jumping = jumping or (bool(step.through) and (step.flow.record.jumps or integers))
        written = {*step.produced}
        for data, outputs in step.through:
            gain = _through(typing, group, step, data, partner, result)
            for name in outputs:
                if name in written:
                    _note(result, _deviation(result.at[name][:, None], gain[:, None]))
                result.at[name] = gain
                written.add(name)
    if jumping:  # rounding may change the output by a whole step
        result.error[~_identical(typing, group, partner)] = np.inf
    return result


def _scale_produced(
    typing: Typing, group: ChannelGroup, step: Step, partner: Array, scale: Array, result: Gains
) -> None:
    """Give the outputs of ``step`` the given scale, if its constants can have it."""
    node, making = step.flow.record.node, step.flow.record.making
    uses = step.with_role(Role.PRODUCER)
    others = partner != np.arange(group.size)
    for name in step.produced:
        result.at[name] = scale if uses else np.ones(group.size)  # without constants all channels are made alike
    if unscaled(step) is not None:
        result.error[others] = np.inf
    if making is None or not uses:
        return
    _check_offsets(typing, group, step, uses, partner, scale, result)
    for use in uses:
        if use.k not in making.factors | making.terms:
            _same(typing, group, use, partner, result)
    carried = {use.k for use in uses}
    if any(k in making.terms and k not in carried and name for k, name in enumerate(node.inputs)):
        _note(result, np.where(np.abs(scale - 1) <= 1e-6, 0.0, np.inf))


def _same(typing: Typing, group: ChannelGroup, use: Use, partner: Array, result: Gains) -> None:
    """A parameter, such as a slope or an exponent, must be the same for a channel and its partner."""
    same = partner == np.arange(group.size)
    if typing.graph.knows(use.constant):
        values = unfolded(typing, group, use)
        same |= (values == values[partner]).all(axis=1)
    result.error[~same] = np.inf


def _identical(typing: Typing, group: ChannelGroup, partner: Array) -> Array:
    """Whether every constant has exactly the same values for a channel and its partner, (C,) bool."""
    result = Gains(error=np.zeros(group.size))
    for step in group.steps:
        for use in step.uses:
            if use.role is not Role.CONSUMER and not step.prepares:
                _same(typing, group, use, partner, result)
    return np.asarray(result.error == 0)


def _note(result: Gains, error: Array) -> None:
    result.error = np.maximum(result.error, np.where(np.isnan(error), np.inf, error))


def _deviation(values: Array, expected: Array) -> Array:
    """Relative l2 distance of two (C, D) arrays, row by row. It is 0 for two rows of zeros."""
    values, expected = values.astype(np.float64), expected.astype(np.float64)
    size = np.maximum(np.linalg.norm(values, axis=1), np.linalg.norm(expected, axis=1))
    deviation: Array = np.linalg.norm(values - expected, axis=1) / np.maximum(size, TINY)
    return deviation


def _through(typing: Typing, group: ChannelGroup, step: Step, data: list[str], partner: Array, result: Gains) -> Array:
    """Factor behind ``step`` for the channels of ``data``."""
    record = step.flow.record
    incoming = [result.at[name] for name in data if name in result.at]
    if not incoming:  # not made by any weights: the same for all channels, or unknown
        incoming = [np.ones(group.size)]
        _note(result, np.full(group.size, np.inf))
    gain = incoming[0]
    if step.scaling is Scaling.PRODUCT:
        gain = np.prod(incoming, axis=0)
    else:
        for other in incoming[1:]:
            _note(result, _deviation(other[:, None], gain[:, None]))
    if step.scaling is Scaling.NONE or _adds_the_same_to_all(typing, step, data):
        _note(result, np.where(np.abs(gain - 1) <= 1e-6, np.abs(gain - 1), np.inf))
    elif step.scaling is Scaling.HOMOGENEOUS:
        _note(result, np.where(gain >= 0, 0.0, np.inf))
    biased = any(record.node.inputs[k] in data for k in record.offsets if k < len(record.node.inputs))
    if biased and step.with_role(Role.CHANNEL):  # a bias from the data beside weights of the channel's own
        result.error[partner != np.arange(group.size)] = np.inf
    gain = gain * _weight_ratio(typing, group, step, partner, result)
    _check_offsets(typing, group, step, step.with_role(Role.CHANNEL), partner, gain, result)
    if _casts_to_half(typing, record.node):
        _note(result, np.where(np.frexp(gain)[0] == 0.5, 0.0, HALF))  # only powers of two round nothing
    affine = facts_of(record.node.domain, record.node.op).affine
    if affine is not None and step.uses:
        shift = affine(typing.graph, record.node).t
        values = along_channels(typing, group, step.uses[0], shift)
        _note(result, _deviation(values, values[partner] * gain[:, None]))
    return gain


def _casts_to_half(typing: Typing, node: Node) -> bool:
    if node.op == "CastLike":  # to a type that is not known: to the worst
        return inferred_types(typing.graph.model).get(node.outputs[0], NARROW[0]) in NARROW
    return node.op == "Cast" and node.attrs.get("to") in NARROW


def _adds_the_same_to_all(typing: Typing, step: Step, data: list[str]) -> bool:
    """Whether the node adds a value that does not depend on the channel. Then only a scale of one passes."""
    record, graph = step.flow.record, typing.graph
    if step.scaling is Scaling.PRODUCT:
        return False
    carried = {use.k for use in step.with_role(Role.CHANNEL)}
    for k, name in enumerate(record.node.inputs):
        if k in record.offsets and k not in carried and (not graph.knows(name) or np.any(graph.array(name))):
            return True
    placed = {record.node.inputs[p.k] for p in record.places if not p.output and not _is_constant(typing, p.k, step)}
    return len(placed - set(data)) > 0 and facts_of(record.node.domain, record.node.op).joins in ADDING


def _is_constant(typing: Typing, k: int, step: Step) -> bool:
    return step.flow.record.node.inputs[k] in typing.graph.constants


def _weight_ratio(typing: Typing, group: ChannelGroup, step: Step, partner: Array, result: Gains) -> Array:
    """Ratio of the factors by which the node multiplies a channel and its partner."""
    record = step.flow.record
    facts = facts_of(record.node.domain, record.node.op)
    if facts.affine is not None and step.uses:
        a = facts.affine(typing.graph, record.node).a
        return _ratio(along_channels(typing, group, step.uses[0], a), partner, result)
    ratio = np.ones(group.size)
    for use in step.with_role(Role.CHANNEL):
        if use.k in record.offsets:
            continue
        if not typing.graph.knows(use.constant):
            _note(result, np.where(partner == np.arange(group.size), 0.0, np.inf))
            continue
        values = unfolded(typing, group, use)
        if use.k in record.weights:
            one = _ratio(values, partner, result)
            ratio = ratio / one if facts.joins is Joins.QUOTIENT else ratio * one
        else:
            _same(typing, group, use, partner, result)
    return ratio


def _ratio(values: Array, partner: Array, result: Gains) -> Array:
    """Least-squares factor of each row over its partner's row. Records how far it is from exact."""
    values = values.astype(np.float64)
    other = values[partner]
    power = (other * other).sum(axis=1)
    ratio = np.divide((values * other).sum(axis=1), power, out=np.ones(len(values)), where=power > 0)
    _note(result, _deviation(values, other * ratio[:, None]))
    return np.where(ratio == 0.0, TINY, ratio)


def _check_offsets(
    typing: Typing, group: ChannelGroup, step: Step, uses: list[Use], partner: Array, gain: Array, result: Gains
) -> None:
    """Records how far the value added to a channel is from the channel's factor times the value added to its
    partner."""
    node = step.flow.record.node
    if facts_of(node.domain, node.op).affine is not None:
        return
    for use in uses:
        if step.is_offset(use):
            if not typing.graph.knows(use.constant):
                _note(result, np.where(partner == np.arange(group.size), 0.0, np.inf))
                continue
            values = unfolded(typing, group, use).astype(np.float64)
            error = _deviation(values, values[partner] * gain[:, None])
            near = np.flatnonzero((error > 1e-6) & (error < 1e-2))
            if near.size:  # tiny biases are rounding errors of larger numbers: compare with the weights
                size = np.abs(values[near]).max(axis=1, initial=0.0)
                weights = _weights(typing, group, near)
                error[near] *= np.where(weights > size, size / np.maximum(weights, TINY), 1.0)
            _note(result, error)


def _weights(typing: Typing, group: ChannelGroup, channels: Array) -> Array:
    """The largest norm of the weights that produce each of ``channels``."""
    largest = np.zeros(len(channels))
    for step in group.steps:
        for use in step.with_role(Role.PRODUCER):
            if not step.prepares and not step.is_offset(use) and typing.graph.knows(use.constant):
                rows = unfolded(typing, group, use)[channels].astype(np.float64)
                largest = np.maximum(largest, np.linalg.norm(rows, axis=1))
    return largest
