"""Freezes channels that are produced or read by weights with NaN or infinity.

Such weights can be neither compared nor used as weights of an average. The rest of the model still shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from passes.axes import algebra
from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.registry import facts_of
from passes.graph.model import Array, Graph
from passes.interface.reason import Reason
from passes.weights.stored_tensors import array_of

LARGEST = float(np.finfo(np.float32).max)


def freeze_what_is_not_finite(typing: Typing, groups: Sequence[ChannelGroup]) -> None:
    """Freeze the groups where the weights of a producer or a consumer, or a constant added to the channels, are not
    finite as float32."""
    found: dict[str, str] = {}
    for group in groups:
        for step in group.steps if group.frozen is None else ():
            for name in _read(step):
                if name not in found:
                    found[name] = _fault(typing.graph, name)
                if found[name]:
                    node = step.flow.record.node
                    reason = Reason("operator", node.label, f"has weights that {found[name]}", node.op)
                    algebra.freeze(group.atom, reason)


def _read(step: Step) -> Iterator[str]:
    """The constants of a step that make a channel, sum over it, or are added to it."""
    if step.prepares:
        return
    node = step.flow.record.node
    whole = facts_of(node.domain, node.op).affine is not None
    for use in step.uses:
        if use.role is not Role.CHANNEL or whole or step.is_offset(use):
            yield use.constant


def _fault(graph: Graph, name: str) -> str:
    """What is wrong with the values of a constant; empty if all are finite, or if they are not known."""
    if name in graph.initializers:
        array = array_of(graph.initializers[name])  # the graph would keep it in memory
    elif graph.knows(name):
        array = graph.array(name)
    else:
        return ""
    return _what(array)


def _what(array: Array) -> str:
    if array.dtype.kind in "biuSUO" or not array.size:
        return ""
    # The minimum and the maximum suffice, and take no memory. Both are NaN if any number is.
    low, high = float(np.min(array)), float(np.max(array))
    if np.isnan(low) or np.isnan(high):
        return "hold NaN"
    if np.isinf(low) or np.isinf(high):
        return "hold infinity"
    return "are beyond float32's range" if max(-low, high) > LARGEST else ""
