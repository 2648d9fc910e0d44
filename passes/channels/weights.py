"""The signature of a channel: the weights and biases of every layer that produces it, as one row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.index_maps import unfold
from passes.axes.inference import Role, Typing, Use
from passes.axes.registry import facts_of
from passes.graph.model import Array
from passes.interface.errors import PassError
from passes.numerics.arrays import RowSet
from passes.transforms.fold_batchnorm import FoldedNorm
from passes.weights.stored_tensors import stored_array

TINY = 1e-30


@dataclass(frozen=True)
class Producer:
    """Weights of one layer for each channel. ``values`` (C, D): with BatchNormalization folded in. ``divisor`` (C,):
    the factor by which folding multiplied them. ``kernel``: weights of one input channel, in the order of D."""

    values: Array
    divisor: Array
    kernel: int

    @property
    def trained(self) -> Array:
        """The weights as they were trained, (C, inputs, kernel)."""
        divisor = self.divisor[:, None]
        values = np.zeros(self.values.shape, np.result_type(self.values, np.float32))  # a list of places has integers
        np.divide(self.values, divisor, out=values, where=np.abs(divisor) > TINY)
        return values.reshape(len(values), -1, self.kernel)


@dataclass(frozen=True)
class Signature:
    """``rows`` (C, D): weights of the producers side by side. ``biases`` (C, B): values added to the channel, by the
    producers or on its way. ``dense``: whether every producer is fully connected; the bias then counts as one more
    weight (Neuron Merging, sec. 3)."""

    rows: RowSet
    biases: Array
    producers: list[Producer]
    dense: bool
    on_the_way: Array
    """Which columns of the biases come from other nodes than the producers, (B,) bool."""

    @cached_property
    def full(self) -> RowSet:
        """Rows with their biases appended, (C, D + B)."""
        return RowSet(stored_array(_beside([self.rows.values, self.biases], len(self.biases))))

    @property
    def made(self) -> RowSet:
        """Rows with the producers' own biases appended, (C, D + b)."""
        if self.on_the_way.any():
            return RowSet(_beside([self.rows.values, self.biases[:, ~self.on_the_way]], len(self.biases)))
        return self.full

    @property
    def trained(self) -> Array:
        """Rows as they were trained, (C, D)."""
        return _beside([p.trained.reshape(len(self.biases), -1) for p in self.producers], len(self.biases))

    def trained_norms(self, order: Literal[1, 2]) -> Array:
        """The l1 or l2 norm of each row as it was trained, (C,)."""
        from passes.numerics.norms import row_norms  # here: `inspect` should not wait for the compiler

        powers = np.zeros(len(self.biases))
        for producer in self.producers:
            norms = row_norms(self.rows if len(self.producers) == 1 else producer.values, order)
            divisor = np.abs(producer.divisor)
            powers += np.divide(norms, divisor, out=np.zeros(len(norms)), where=divisor > TINY) ** order
        return powers if order == 1 else np.sqrt(powers)


def unfolded(typing: Typing, group: ChannelGroup, use: Use) -> Array:
    """All values of a constant for each channel, (C, D)."""
    return unfold(typing.graph.array(use.constant), use.axis, typing.axes[use.constant][use.axis], group.atom)


def signature(typing: Typing, group: ChannelGroup, norms: Mapping[str, FoldedNorm]) -> Signature:
    """Signature of a group's channels, from the group's constants whose values are known.

    ``norms``: weights -> the norm that was folded into them.
    """
    biases: list[Array] = []
    on_the_way: list[bool] = []
    producers: list[Producer] = []
    dense = True
    for step in group.steps:
        node = step.flow.record.node
        facts = facts_of(node.domain, node.op)
        for use in step.uses:
            if step.prepares or not typing.graph.knows(use.constant):  # prepared ones follow at the reader
                continue
            if use.role is Role.PRODUCER and not step.is_offset(use):
                divisor = np.ones(group.size)
                if use.constant in norms:
                    divisor = along_outputs(typing, group, step, norms[use.constant].a)[:, 0]
                shape = typing.graph.array(use.constant).shape
                kernel = math.prod(n for axis, n in enumerate(shape) if axis >= 2 and axis != use.axis)
                producers.append(Producer(unfolded(typing, group, use), divisor, kernel))
                dense = dense and facts.linear is not None and not facts.linear.convolves
            elif use.role is not Role.CONSUMER and step.is_offset(use) and facts.affine is None:
                biases.append(unfolded(typing, group, use))
                on_the_way += [use.role is Role.CHANNEL] * biases[-1].shape[1]
        known = all(use.constant in typing.graph.initializers for use in step.uses)
        if facts.affine is not None and step.uses and known:
            biases.append(along_channels(typing, group, step.uses[0], facts.affine(typing.graph, node).t))
            on_the_way += [True] * biases[-1].shape[1]
    try:
        rows = RowSet(stored_array(_beside([p.values for p in producers], group.size)))
    except ValueError as error:
        remedy = "repair the model, or leave the layer whole with `exclude`"
        raise PassError(f"the weights of {group.name} cannot be compared: {error}; {remedy}") from error
    beside = _beside(biases, group.size)
    return Signature(rows, beside, producers, dense, np.array(on_the_way, bool))


def _beside(blocks: list[Array], channels: int) -> Array:
    """Blocks (C, D...) side by side as float32; a single one is not copied."""
    filled = [b for b in blocks if b.shape[1]]
    if len(filled) == 1:
        return filled[0].astype(np.float32, copy=False)
    return np.concatenate([np.zeros((channels, 0), np.float32), *filled], axis=1, dtype=np.float32, casting="same_kind")


def along_channels(typing: Typing, group: ChannelGroup, use: Use, values: Array) -> Array:
    """Values of the shape of the constant of ``use``, for each channel of the group, (C, D)."""
    return unfold(values, use.axis, typing.axes[use.constant][use.axis], group.atom)


def along_outputs(typing: Typing, group: ChannelGroup, step: Step, values: Array) -> Array:
    """Values of constants joined to the channels of a layer's output, for each channel of the group, (C, D)."""
    axes = typing.axes[step.produced[0]]
    node = step.flow.record.node
    linear = facts_of(node.domain, node.op).linear
    axis = 1 if linear is None or linear.convolves else len(axes) - 1
    return unfold(values, 0, axes[axis], group.atom)
