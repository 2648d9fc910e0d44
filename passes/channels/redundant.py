"""Finds redundant channels: those whose removal costs nothing.

- *unread*: every consumer multiplies the channel by zeros.
- *constant*: the channel has one value for every input. The value moves into the consumers' biases. (*dead*: the value
  is 0.)
- *negligible*: on inputs like the training data, the channel's contribution to every sum is lost in float32 rounding.
  The statistics that BatchNormalization recorded show this. Many such channels have a scale that weight decay has
  brought next to zero.
- *parallel*: the channel is an exact positive multiple of another channel, which takes over its weights.

Redundant channels are removed first, whatever the selection criterion. Unread and parallel channels, and channels whose
weights alone show that they are constant, change no output beyond rounding on any input. A lossless compression removes
only these. Results that rest on the norm's statistics (negligible channels, and the bounds by
`RedundancyTuning.recorded_deviations`) hold for inputs on the scale of the training data, not far from it. Such
channels are removed after the others, and only where loss is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.index_maps import unfold
from passes.axes.inference import Role, Typing, Use
from passes.axes.registry import facts_of
from passes.axes.rules.convolution import pads
from passes.channels.batchnorm_moments import recorded_distributions
from passes.channels.intervals import Interval
from passes.channels.scale_propagation import TINY, gains, unscaled
from passes.channels.value_bounds import channel_intervals
from passes.channels.weights import Signature, unfolded
from passes.graph.added_bias import added_bias
from passes.graph.model import Array
from passes.numerics.arrays import RowSet
from passes.numerics.norms import row_norms
from passes.numerics.similarity import parallel_classes
from passes.settings.transform_tuning import RedundancyTuning
from passes.settings.tuning import TUNING
from passes.transforms.fold_batchnorm import FoldedNorm


@dataclass
class RedundantChannels:
    """``order``: redundant channels, in the order of removal. ``partner`` (C,): the channel that replaces each one, -1
    for none. ``scale`` (C,): factor at the producers. ``constants``: tensor -> (C,) value of each constant channel."""

    order: list[int]
    partner: Array
    scale: Array
    constants: dict[str, Array] = field(default_factory=dict)

    def replaced(self, keep: Sequence[int]) -> Array:
        """The redundant channels that are not among ``keep`` and whose partner, if they have one, is."""
        stays = {-1, *keep}
        return np.array([c for c in self.order if c not in stays and int(self.partner[c]) in stays], np.intp)


def redundant_channels(
    typing: Typing,
    group: ChannelGroup,
    sign: Signature,
    nonnegative: set[str],
    norms: Mapping[str, FoldedNorm],
    tuning: RedundancyTuning = TUNING.redundancy,
) -> RedundantChannels:
    """The group's redundant channels. Where the consumers cannot be rewritten, these are unread or dead. Where they
    share weights, partners and factors suit all of them.

    ``norms``: weights -> what a norm recorded of the channels that they produce. Without any, only channels that are
    redundant on every input are returned.
    """
    redundant = RedundantChannels([], np.full(group.size, -1), np.ones(group.size))
    unread = _unread(typing, group)
    constant = _constant(typing, group, channel_intervals(typing, group, nonnegative, {}, tuning), redundant) & ~unread
    recorded = np.zeros(group.size, bool)
    if group.unmixable is None and norms:
        recorded = _recorded(typing, group, nonnegative, norms, redundant, tuning) & ~unread & ~constant
    redundant.order = [*np.flatnonzero(unread), *np.flatnonzero(constant)]
    if group.unmergeable is None:
        redundant.order += _parallel(
            typing, group, sign, redundant, unread | constant | recorded, tuning.parallel_tolerance
        )
    redundant.order += [*np.flatnonzero(recorded)]
    redundant.order = [int(c) for c in redundant.order[: group.size - 1]]  # at least one channel stays
    return redundant


def _recorded(
    typing: Typing,
    group: ChannelGroup,
    nonnegative: set[str],
    norms: Mapping[str, FoldedNorm],
    redundant: RedundantChannels,
    tuning: RedundancyTuning,
) -> Array:
    """Channels that are negligible or constant on inputs like those that the norms saw."""
    exact = redundant.constants
    redundant.constants = {}
    constant = _constant(typing, group, channel_intervals(typing, group, nonnegative, norms, tuning), redundant)
    for name, value in exact.items():
        redundant.constants[name] = np.where(value != 0.0, value, redundant.constants.get(name, 0.0))
    return constant | _negligible(typing, group, norms, tuning.negligible_share)


def _unread(typing: Typing, group: ChannelGroup) -> Array:
    """Channels that every consumer multiplies with zeros, all of them if there is no consumer."""
    uses = group.consumer_uses()
    if _summed_without_weights(group) or not all(typing.graph.knows(use.constant) for _, use in uses):
        return np.zeros(group.size, bool)
    unread = np.ones(group.size, bool)
    for _, use in uses:
        if unread.any():
            unread &= ~_any_nonzero(typing, group, use)
    return unread


def _summed_without_weights(group: ChannelGroup) -> bool:
    """Whether a node sums over the channels, or a window of them, without constant weights."""
    return any(step.contracted or step.slid for step in group.steps)


def _negligible(typing: Typing, group: ChannelGroup, norms: Mapping[str, FoldedNorm], least: float) -> Array:
    """Channels that are small at every consumer: their root mean square times their weights' norm is less than the
    share ``least`` of the largest."""
    samples = recorded_distributions(typing, group, norms)
    uses = group.consumer_uses()
    if group.unmixable is not None or not uses or any(step.read not in samples for step, _ in uses):
        return np.zeros(group.size, bool)
    found = np.ones(group.size, bool)
    for step, use in uses:
        sample = samples[step.read]
        size = np.sqrt(sample.mean**2 + sample.variance)
        if np.any(size < least * size.max()):  # reading the consumer's weights is slow, so only where needed
            size = size * np.linalg.norm(unfolded(typing, group, use), axis=1)
        found &= size < least * size.max()
    return found


def _any_nonzero(typing: Typing, group: ChannelGroup, use: Use) -> Array:
    """Channels with a nonzero weight. One slice of the array is tested first, since it settles almost all of them."""
    array, term = typing.graph.array(use.constant), typing.axes[use.constant][use.axis]
    other = 0 if use.axis else array.ndim - 1
    if array.ndim > 1 and array.shape[other] > 1:
        seen = unfold(array.take([0], other), use.axis, term, group.atom).any(axis=1)
        if seen.all():
            return np.asarray(seen)
    return np.asarray(unfold(array, use.axis, term, group.atom).any(axis=1))


def _constant(typing: Typing, group: ChannelGroup, at: Mapping[str, Interval], redundant: RedundantChannels) -> Array:
    """Channels with a constant at every consumer that it can do without: one that its bias can take, or 0. Where
    consumers cannot be rewritten, only 0."""
    found, is_read = np.full(group.size, not any(step.slid for step in group.steps)), False
    values: dict[str, Array] = {}
    for step in group.steps:
        if step.summed:
            found &= _zero_products(group, step, at)
            is_read = True
        if step.consumed:
            interval = at.get(step.read)
            if interval is None:
                return np.zeros(group.size, bool)
            found &= interval.constant
            value = interval.middle
            if group.unmergeable is not None or not takes_constants(typing, step) or pads(step.flow.record.node):
                found &= value == 0.0
            values[step.read] = value
            is_read = True
    if not is_read:
        return np.zeros(group.size, bool)
    if group.unmergeable is None:
        redundant.constants = {name: np.where(found, value, 0.0) for name, value in values.items()}
    return found


def _zero_products(group: ChannelGroup, step: Step, at: Mapping[str, Interval]) -> Array:
    """Channels that are zero in one of the operands whose products the node sums over them."""
    node, found = step.flow.record.node, np.zeros(group.size, bool)
    if facts_of(node.domain, node.op).zeros_add_nothing:
        for name in step.summed:
            found |= at[name].zero if name in at else False
    return found


def takes_constants(typing: Typing, step: Step) -> bool:
    """Whether a consumer has a bias that can take its response to a constant channel."""
    node = step.flow.record.node
    if any(use.k != 1 for use in step.with_role(Role.CONSUMER)):
        return False
    if node.op == "MatMul":
        is_matrix = len(typing.graph.shape(node.inputs[1]) or ()) == 2
        return is_matrix and added_bias(typing.graph, node.outputs[0]) is not None
    if node.op not in ("Conv", "Gemm"):
        return False
    biases = [name for name in node.inputs[2:] if name]
    rows = [(1, 1, *(typing.graph.shape(name) or ()))[-2] for name in biases]
    return all(typing.graph.knows(name) for name in biases) and max(rows, default=1) == 1  # does not vary by sample


def _parallel(
    typing: Typing, group: ChannelGroup, sign: Signature, redundant: RedundantChannels, taken: Array, tolerance: float
) -> list[int]:
    """Channels that are multiples of an earlier channel, in their producers and in every node on the way to the
    consumers."""
    own = np.arange(group.size)
    if any(unscaled(step) for step in group.steps):
        return []
    rows = parallel_classes(sign.rows, tolerance)[0]
    if np.array_equal(rows, own):  # no two channels have parallel weights
        return []
    blocks: list[Array | RowSet] = [sign.made]
    for step in group.steps:
        for use in step.uses:
            if use.role is not Role.CONSUMER and not typing.graph.knows(use.constant):
                return []
            if use.role is Role.CHANNEL and not step.is_offset(use):
                blocks.append(unfolded(typing, group, use))
    label = np.stack([parallel_classes(block, tolerance)[0] for block in blocks], axis=1)
    norms = row_norms(sign.made)
    open_ = (norms > 0) & ~taken  # a removed channel replaces no other
    while open_.any():
        heads: dict[tuple[int, ...], int] = {}
        partner = own.copy()
        for c in np.flatnonzero(open_):
            partner[c] = heads.setdefault(tuple(label[c]), int(c))
        if np.array_equal(partner, own):
            break
        scale = np.divide(norms, norms[partner], out=np.ones(group.size), where=norms[partner] > 0)
        passed = gains(typing, group, partner, scale)
        error = np.maximum(passed.error, _mismatch(sign, partner, scale))
        error = np.maximum(error, disagreement(group, passed.at))
        merged = (partner != own) & (error <= tolerance * 4)
        redundant.partner[merged], redundant.scale[merged] = partner[merged], scale[merged]
        open_ &= (partner != own) & ~merged  # no exact multiple of its partner: try the next one
    return [int(c) for c in np.flatnonzero(redundant.partner >= 0)]


def disagreement(group: ChannelGroup, factors: Mapping[str, Array]) -> Array:
    """Largest relative deviation of the factors (C,) at which consumers with the same weights would take over a
    channel."""
    error = np.zeros(group.size)
    first: dict[str, Array] = {}
    for step, use in group.consumer_uses():
        factor = factors.get(step.read)
        if factor is not None:
            other = first.setdefault(use.constant, factor)
            error = np.maximum(error, np.abs(factor - other) / np.maximum(np.abs(other), TINY))
    return error


def _mismatch(sign: Signature, partner: Array, scale: Array) -> Array:
    """Largest relative deviation of a channel's weights from ``scale`` times its partner's, over all producers, (C,).
    It is relative to the weights of each producer, so that a producer with small weights is tested as strictly as one
    with large weights."""
    error = np.zeros(len(partner))
    others = np.flatnonzero(partner != np.arange(len(partner)))
    for producer in sign.producers if len(sign.producers) > 1 else ():
        own = producer.values[others].astype(np.float64)
        expected = producer.values[partner[others]] * scale[others, None]
        size = np.maximum(np.abs(own).max(axis=1, initial=0.0), np.abs(expected).max(axis=1, initial=0.0))
        apart = np.abs(own - expected).max(axis=1, initial=0.0)
        error[others] = np.maximum(error[others], np.divide(apart, size, out=np.zeros(len(others)), where=size > 0))
    return error
