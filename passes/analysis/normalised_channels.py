"""Finds the channels over which norms normalise, and of which mixtures can be left out.

A norm reads all channels of a place together, so that none of them can be taken out alone. But a norm does not change
under rotations: the channels of a residual stream that only norms read may be rotated, if what writes the stream and
what reads the norms' outputs is linear (Ashkboos et al., SliceGPT, ICLR 2024, sec. 3.2). In the directions of least
weight the stream is then cut.

    x: the stream; y = s n(x) + b: output of a norm with scale s and bias b; W y: what a layer reads of it
    W y = W s Q n(Q^T x) + W b        for every rotation Q, which keeps the mean of x for LayerNormalization
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup, Norm, Step
from passes.axes.inference import Typing
from passes.axes.registry import facts_of
from passes.channels.mixable import mixes
from passes.interface.reason import Reason


def find_normalised(typing: Typing, groups: Sequence[ChannelGroup]) -> None:
    """Set `ChannelGroup.normalised` and `ChannelGroup.norms` of the groups of which mixtures can be left out. Freeze
    all others over which a norm normalises."""
    own = {group.atom: group for group in groups}
    for flow in typing.flows:
        node = flow.record.node
        reason = Reason("operator", node.label, "normalises over it", node.op)
        for term in flow.record.normalised:
            resolved = algebra.resolve(term)
            group = own.get(resolved) if isinstance(resolved, Atom) else None
            if group is not None and group.normalised is not None:
                continue
            found = norms_between(typing, group) if group is not None and group.frozen is None else None
            if group is None or found is None:
                algebra.freeze(term, reason)
            else:
                group.normalised, group.norms = reason, found


def norms_between(typing: Typing, group: ChannelGroup) -> dict[str, Norm] | None:
    """Tensor -> the norm whose output it is or contains, for the tensors that layers may read. None where something
    reads the channels that does not go with rotations of them."""
    norms: dict[str, Norm] = {}
    if group.unmixable is not None:
        return None
    for step in group.steps:
        if step.normalises:
            norm = _norm(typing, step, group.size)
            if norm is None or any(name in norms for data, _ in step.through for name in data):
                return None
            norms[norm.node.outputs[0]] = norm
        elif not mixes(typing, step):
            return None
        for data, outputs in step.through if not step.normalises else ():
            behind = {name for name in data if name in norms}
            if behind and (len(data) > 1 or step.uses):
                return None  # scaled and shifted, they are added to others
            norms.update((name, norms[tensor]) for tensor in behind for name in outputs)
    bare = any(name not in norms for step in group.steps for name in step.consumed)
    return None if bare and any(norm.centred for norm in norms.values()) else norms


def _norm(typing: Typing, step: Step, size: int) -> Norm | None:
    """The norm that a step is; None where its scale or bias is no initializer with a finite number for each channel."""
    graph, node = typing.graph, step.flow.record.node
    form = facts_of(node.domain, node.op).norm
    scale, bias = (node.inputs[k] if len(node.inputs) > k else "" for k in (1, 2))
    for name in filter(None, (scale, bias)):
        known = name in graph.initializers and graph.array(name)
        if known is False or known.shape != (size,) or known.dtype.kind != "f" or not np.isfinite(known).all():
            return None
    return None if form is None else Norm(node, scale, bias, form.centred)
