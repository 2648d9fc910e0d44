"""What makes a channel: the weights and biases of every layer that produces it, as one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from passes.fold_batchnorm import FoldedNorm, batchnorm_affine
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Role, Typing, Use
from passes.graph.model import Array
from passes.graph.project import unfold

DENSE = ("Gemm", "MatMul")
TINY = 1e-30


@dataclass(frozen=True)
class Signature:
    """``rows`` (C, D): weights of the producers side by side; ``biases`` (C, B): what is added to the channel, by the
    producers or on its way; ``filters``: the weights of each producer as (C, inputs, kernel), as they were trained,
    that is without the factor of a folded BatchNormalization."""

    rows: Array
    biases: Array
    filters: list[Array]
    dense: bool
    """Whether every producer is fully connected: then the bias counts as one more weight (Neuron Merging, sec. 3)."""

    @property
    def full(self) -> Array:
        """Rows with their biases appended, (C, D + B)."""
        return _beside([self.rows, self.biases], len(self.rows))

    @property
    def trained(self) -> Array:
        """Rows as they were trained, (C, D)."""
        return _beside([f.reshape(len(f), -1) for f in self.filters], len(self.rows))

    def __getitem__(self, channels: Array) -> Signature:
        """The signature of some of the channels."""
        return Signature(self.rows[channels], self.biases[channels], [f[channels] for f in self.filters], self.dense)


def unfolded(typing: Typing, group: ChannelGroup, use: Use) -> Array:
    """All that a constant holds for each channel, (C, D)."""
    return unfold(typing.graph.array(use.constant), use.axis, typing.axes[use.constant][use.axis], group.atom)


def signature(typing: Typing, group: ChannelGroup, norms: Mapping[str, FoldedNorm]) -> Signature:
    """Signature of a group's channels, from those of its constants that are initializers.

    ``norms``: weights -> the norm that was folded into them.
    """
    rows: list[Array] = []
    biases: list[Array] = []
    filters: list[Array] = []
    ops: set[str] = set()
    for step in group.steps:
        node = step.flow.record.node
        for use in step.uses:
            if use.constant not in typing.graph.initializers:
                continue
            if use.role is Role.PRODUCER and not step.is_offset(use):
                values = unfolded(typing, group, use)
                rows.append(values)
                if use.constant in norms:
                    scale = along_channels(typing, group, use, norms[use.constant].a)[:, :1]
                    values = np.divide(values, scale, out=np.zeros_like(values), where=np.abs(scale) > TINY)
                filters.append(_kernels(typing.graph.array(use.constant), values))
                ops.add(node.op)
            elif use.role is not Role.CONSUMER and step.is_offset(use) and node.op != "BatchNormalization":
                biases.append(unfolded(typing, group, use))
        known = all(use.constant in typing.graph.initializers for use in step.uses)
        if node.op == "BatchNormalization" and step.uses and known:
            biases.append(along_channels(typing, group, step.uses[0], batchnorm_affine(typing.graph, node).t))
    return Signature(_beside(rows, group.size), _beside(biases, group.size), filters, ops <= set(DENSE))


def _beside(blocks: list[Array], channels: int) -> Array:
    """Blocks (C, D...) side by side as float32; a single one is not copied."""
    filled = [b for b in blocks if b.shape[1]]
    if len(filled) == 1:
        return filled[0].astype(np.float32, copy=False)
    return np.concatenate([np.zeros((channels, 0), np.float32), *filled], axis=1, dtype=np.float32, casting="same_kind")


def along_channels(typing: Typing, group: ChannelGroup, use: Use, values: Array) -> Array:
    """Values that stand beside the constant of ``use`` along its axis, for each channel of the group, (C, D)."""
    return unfold(values, 0, typing.axes[use.constant][use.axis], group.atom)


def _kernels(weight: Array, rows: Array) -> Array:
    """Rows of a convolution's weights as (C, inputs, kernel)."""
    kernel = int(np.prod(weight.shape[2:])) if weight.ndim > 2 else 1
    return rows.reshape(rows.shape[0], -1, kernel)
