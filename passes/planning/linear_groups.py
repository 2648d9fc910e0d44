"""Finds and projects the groups whose channels may be mixed: any matrix, or any rotation where norms read them.

Only linear layers and sums meet the channels of a narrow tensor between two convolutions without an activation, and
those of a residual stream that no activation and no norm reads. Of a stream that norms read, the rotations pass
(`passes.analysis.normalised_channels`). Selecting channels is then no more than one way to leave K dimensions
(`passes.numerics.projection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import sparse

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.mixable import mixes
from passes.channels.norm_constants import NEUTRAL_BIAS, has_bias, norm_constants
from passes.channels.statistics import ChannelStatistics, readers_gram
from passes.graph.model import Array
from passes.numerics.projection import Principal, prediction_from, principal, projection, rotation, under_norms
from passes.numerics.tuning import ProjectionTuning
from passes.planning.compensation import reads_take_constants
from passes.planning.plan import GroupPlan


class _Takes(Enum):
    """What can add a constant to what a tensor's readers read."""

    NEITHER = "neither"
    BIAS = "bias"
    """The biases of all readers."""
    NORM = "norm"
    """The bias of a norm that subtracts the mean: a vector of ones is in no other output of it
    (`passes.surgery.projected_norms`)."""


@dataclass(frozen=True)
class _Read:
    """A tensor y = s x + b that layers read, of channels x, or of normalised channels x. ``moments`` (C, C): second
    moments of x, about the ``mean`` (C,) of x if something ``takes`` a constant; ``scale``, ``shift`` (C,): s, b."""

    moments: Array
    mean: Array
    scale: Array
    shift: Array
    takes: _Takes


def is_linear(typing: Typing, group: ChannelGroup) -> bool:
    """Whether a matrix that mixes the channels passes through every node between the layers that write and read
    them; a rotation, where norms are among the nodes."""
    passes = group.normalised is not None or all(mixes(typing, step, group.atom) for step in group.steps)
    return group.unmixable is None and passes


def directions(typing: Typing, group: ChannelGroup, seen: ChannelStatistics, tuning: ProjectionTuning) -> Principal:
    """The most important directions of a linear group, for all its readers together."""
    reads = {name: _read(typing, group, seen, name) for name in seen}
    moments = _summed([read.moments for read in reads.values()])
    found = principal(moments, _weight(typing, group, reads), tuning)
    return under_norms(found, _centred(group)) if group.norms else found


def project(typing: Typing, plan: GroupPlan, seen: ChannelStatistics, found: Principal, ridge: float) -> None:
    """Let mixtures take the places of the channels that ``plan`` keeps, and predict all channels from them. ``found``:
    the group's directions; ``ridge``: see `prediction_from`."""
    group = plan.group
    reads = {name: _read(typing, group, seen, name) for name in seen}
    moments = _summed([read.moments for read in reads.values()])
    if group.norms:
        a = rotation(found, moments, _weight(typing, group, reads), plan.keep, _centred(group))
    else:
        a = projection(found, moments, plan.keep)
    plan.projection = a
    plan.constants = {}  # channels that are constant are among the mixed ones
    for name, read in reads.items():
        turned = a.T if name in group.norms else 0.0
        z = read.scale[:, None] * prediction_from(a, read.moments, ridge, turned)
        lost = read.scale * read.mean + read.shift - z @ (a @ read.mean + NEUTRAL_BIAS * has_bias(group, name))
        if read.takes is _Takes.BIAS:
            plan.constants[name] = lost * (group.norms[name].factor if name in group.norms else 1.0)
        elif read.takes is _Takes.NORM:
            z = z + lost[:, None] / len(a)
        plan.mixing[name] = sparse.csr_array(z)


def _read(typing: Typing, group: ChannelGroup, seen: ChannelStatistics, name: str) -> _Read:
    mean, moments, takes = seen[name].mean, seen[name].covariance.dense(), _Takes.NEITHER
    if reads_take_constants(typing, group, name):
        takes = _Takes.BIAS
    elif has_bias(group, name) and group.norms[name].centred:
        takes = _Takes.NORM
    if takes is _Takes.NEITHER:
        moments = moments + np.outer(mean, mean)
    return _Read(moments, mean, *norm_constants(typing.graph, group, name), takes)


def _weight(typing: Typing, group: ChannelGroup, reads: Mapping[str, _Read]) -> Array:
    """W^T W (C, C) of what reads the channels, with the scales of norms on the way."""
    if not group.norms:
        return readers_gram(typing, group, reads)
    return _summed([np.outer(r.scale, r.scale) * readers_gram(typing, group, [name]) for name, r in reads.items()])


def _centred(group: ChannelGroup) -> bool:
    return any(norm.centred for norm in group.norms.values())


def _summed(moments: list[Array]) -> Array:
    return np.asarray(sum(moments), np.float64)
