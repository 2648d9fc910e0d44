"""Channels that weights with NaN or infinity make, or read, stay whole: nothing can be compared with these, nor
weighed by them. The rest of the model shrinks all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import numpy_helper

from passes.axes import algebra as terms
from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.registry import facts_of
from passes.graph.model import Array, Graph

LARGEST = float(np.finfo(np.float32).max)


def freeze_what_is_not_finite(typing: Typing, groups: Sequence[ChannelGroup]) -> None:
    """Freeze the groups of which a layer's weights, a reader's, or what is added to the channels, are not finite as
    float32."""
    found: dict[str, str] = {}
    for group in groups:
        for step in group.steps if group.frozen is None else ():
            for name in _read(step):
                if name not in found:
                    found[name] = _fault(typing.graph, name)
                if found[name]:
                    node = step.flow.record.node
                    terms.freeze(group.atom, f"{node.label} ({node.op}) has weights that {found[name]}")


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
    """What is wrong with the values of a constant; nothing if all are well, or they are not known."""
    if name in graph.initializers:
        array = numpy_helper.to_array(graph.initializers[name])  # which the graph would hold on to
    elif graph.knows(name):
        array = graph.array(name)
    else:
        return ""
    return _what(array)


def _what(array: Array) -> str:
    if array.dtype.kind in "biuSUO" or not array.size:
        return ""
    # The least and the largest number tell, and take no memory; NaN is both where there is one.
    low, high = float(np.min(array)), float(np.max(array))
    if np.isnan(low) or np.isnan(high):
        return "hold NaN"
    if np.isinf(low) or np.isinf(high):
        return "hold infinity"
    return "are beyond float32's range" if max(-low, high) > LARGEST else ""
