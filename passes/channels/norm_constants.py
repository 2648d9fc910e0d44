"""The scale and the bias of the norms over a group's channels."""

from __future__ import annotations

import numpy as np

from passes.axes.channel_groups import ChannelGroup
from passes.graph.model import Array, Graph

SMALLEST = 1e-6
"""Scale, relative to the largest scale or bias, below which a norm's output says nothing of a channel. Not tuned: some
roundings of float32."""
LEAST = 1e-30
"""The same as a number. Not tuned: its inverse is well inside of float32's range."""
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


def inverse_scale(scale: Array, shift: Array) -> Array:
    """1 / ``scale``; zero where the output of a norm with that scale and bias says nothing of the channel."""
    largest = max(float(np.max(np.abs(scale), initial=0.0)), float(np.max(np.abs(shift), initial=0.0)))
    known = np.abs(scale) > max(SMALLEST * largest, LEAST)
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=known)
