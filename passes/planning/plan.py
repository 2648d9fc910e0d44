"""Defines the plan of a channel group: the channels to keep and the compensation for the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup
from passes.axes.scaling_matrix import ScalingMatrix
from passes.channels.statistics import ChannelStatistics
from passes.graph.model import Array
from passes.interface.reason import Reason
from passes.settings.merge import MergeSettings
from passes.settings.tuning import TUNING, Tuning
from passes.transforms.fold_batchnorm import FoldedNorm


@dataclass
class GroupPlan:
    """Keep the channels ``keep`` (K,) of ``group``.

    ``mixing``: tensor that a consumer reads -> Z (C, K); the consumer's new weights are W Z. ``constants``: tensor ->
    (C,) values c of removed constant channels; W c is added to the consumer's bias. ``projection``: A (K, C) where A x
    takes the place of the channels that stay, None where they stay as they are; the producers' new weights are A W.
    """

    group: ChannelGroup
    keep: Array
    mixing: dict[str, ScalingMatrix] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    projection: Array | None = None
    method: str = "none"
    reason: Reason | None = None
    error: float | None = None
    """Share of the variance of the readers' outputs that is lost; None if it was not measured on samples."""

    @property
    def shrinks(self) -> bool:
        """Whether any channel is removed."""
        return len(self.keep) < self.group.size

    def selection(self) -> sparse.csr_array:
        """The Z (C, K) of plain removal."""
        kept = np.arange(len(self.keep))
        return sparse.csr_array((np.ones(len(kept)), (self.keep, kept)), shape=(self.group.size, len(kept)))

    def spread(self) -> sparse.csr_array | None:
        """The projection as a matrix (C, C) to contract channels with: A^T at the places of the kept channels, zero
        elsewhere. None without a projection."""
        return None if self.projection is None else sparse.csr_array(self.projection.T @ self.selection().T)


def projections(plans: Iterable[GroupPlan]) -> dict[Atom, sparse.csr_array]:
    """Atom -> `GroupPlan.spread`, of the groups that shrink and are projected."""
    found = ((plan.group.atom, plan.spread()) for plan in plans if plan.shrinks)
    return {atom: matrix for atom, matrix in found if matrix is not None}


@dataclass(frozen=True)
class PlanSettings:
    """``method``: reconstruct, merge or prune; ``select``: auto or a criterion of `passes.planning.criteria`;
    ``norms``: weights -> the BatchNormalization that was folded into them; ``statistics``: group name -> statistics of
    its channels on samples, for method ``reconstruct``; ``tuning``: of all passes that make or use the plans; ``kept``:
    group name -> channels to keep, where they are given; ``mixes``: whether channels of linear groups may be mixed.
    They may not where each channel of the solution is carried over to other weights by itself."""

    method: str = "merge"
    select: str = "l1"
    merge: MergeSettings = MergeSettings()
    norms: Mapping[str, FoldedNorm] = field(default_factory=dict)
    statistics: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    tuning: Tuning = TUNING
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    mixes: bool = True


def kept_channels(ratio: float, size: int) -> int:
    """Number of channels that a group of ``size`` keeps at a ratio: ceil(ratio * size), at least one. Rounding errors
    of the product count for nothing."""
    return max(1, math.ceil(ratio * size - 1e-9))
