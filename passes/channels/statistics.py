"""Channel statistics from samples: means and covariances of a group's channels where they are read."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.covariance import Covariance
from passes.channels.weights import unfolded
from passes.graph.model import Array


@dataclass(frozen=True)
class TensorStatistics:
    """Mean (C,) and covariance of channels in one tensor, as expected on fresh samples. ``independent``: the
    number of independent samples behind them. ``without``: the statistics without the samples that losses are measured
    on; the same if there are none of these."""

    mean: Array
    covariance: Covariance
    independent: float = math.inf
    without: TensorStatistics | None = None


ChannelStatistics = dict[str, TensorStatistics]
"""Tensor -> statistics of its channels."""


def joint_covariance(statistics: ChannelStatistics) -> Array:
    """Covariance (C, C) of the channels, summed over the tensors in which they are read."""
    total = [seen.covariance.dense() for seen in statistics.values()]
    return np.asarray(sum(total[1:], total[0]))


def differs(known: ChannelStatistics) -> bool:
    """Whether the statistics change without the samples that losses are measured on."""
    return any(seen.without is not None for seen in known.values())


def apart(known: ChannelStatistics) -> ChannelStatistics:
    """The group's statistics without the samples that losses are measured on."""
    return {tensor: seen.without or seen for tensor, seen in known.items()}


def readers_gram(typing: Typing, group: ChannelGroup, tensors: Collection[str]) -> Array:
    """W^T W (C, C) of the weights that read the channels in ``tensors``; in all tensors if none is named. The identity
    where no weights are known."""
    gram = np.zeros((group.size, group.size))
    for step, use in group.consumer_uses():
        if (not tensors or step.read in tensors) and typing.graph.knows(use.constant):
            rows = unfolded(typing, group, use).astype(np.float64)
            gram += rows @ rows.T
    return gram if gram.any() else np.eye(group.size)


def readers_power(typing: Typing, group: ChannelGroup, tensors: Collection[str]) -> Array:
    """The diagonal (C,) of `readers_gram`: the squared norms of the weights that read each channel."""
    power = np.zeros(group.size)
    for step, use in group.consumer_uses():
        if (not tensors or step.read in tensors) and typing.graph.knows(use.constant):
            rows = unfolded(typing, group, use)
            power += np.einsum("cd,cd->c", rows, rows, dtype=np.float64)
    return power if power.any() else np.ones(group.size)
