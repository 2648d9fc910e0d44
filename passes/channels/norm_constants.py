"""The scale and the bias of the norms over a group's channels."""

from __future__ import annotations

import numpy as np

from passes.axes.channel_groups import ChannelGroup
from passes.graph.model import Array, Graph

SMALLEST = 1e-6
"""Scale, relative to the largest, below which a norm gives nothing of a channel. Not tuned: a hundred roundings of
float16."""


NEUTRAL_BIAS = 1.0
"""Every number of the bias of a norm over projected channels, see `passes.surgery.projected_norms`."""


def has_bias(group: ChannelGroup, name: str) -> bool:
    """Whether the tensor ``name`` is or contains the output of a norm with a bias."""
    return name in group.norms and bool(group.norms[name].bias)


def norm_constants(graph: Graph, group: ChannelGroup, name: str) -> tuple[Array, Array]:
    """Scale (C,) and bias (C,), in float64, of the norm whose output the tensor ``name`` is or contains; ones and zeros
    where it is none."""
    norm = group.norms.get(name)
    scale = graph.array(norm.scale).astype(np.float64) if norm and norm.scale else np.ones(group.size)
    bias = graph.array(norm.bias).astype(np.float64) if norm and norm.bias else np.zeros(group.size)
    return scale, bias


def inverse_scale(scale: Array) -> Array:
    """1 / ``scale``; zero where the scale is."""
    known = np.abs(scale) > SMALLEST * np.max(np.abs(scale), initial=0.0)
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=known)
