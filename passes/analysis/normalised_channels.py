"""Finds the channels over which norms normalise, and of which mixtures can be left out.

A norm reads all channels of a place together, so that none of them can be taken out alone. But a norm does not change
under rotations: the channels of a residual stream that only norms read may be rotated, if what writes the stream and
what reads the norms' outputs is linear (Ashkboos et al., SliceGPT, ICLR 2024, sec. 3). In the directions of least
weight the stream is then cut.

    x: the stream; y = s n(x) + b: output of a norm with scale s and bias b; W y: what a layer reads of it
    W y = W s Q n(Q^T x) + W b        for every rotation Q, which keeps the mean of x for LayerNormalization
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup, Norm, Step
from passes.axes.inference import Typing
from passes.axes.op_facts import Joins
from passes.axes.registry import facts_of
from passes.axes.rules.convolution import pads
from passes.channels.mixable import carries, mixes
from passes.graph.model import Graph, Node
from passes.graph.written_norms import WrittenNorm, written_norms
from passes.interface.reason import Reason


def find_normalised(typing: Typing, groups: Sequence[ChannelGroup]) -> None:
    """Set `ChannelGroup.normalised` and `ChannelGroup.norms` of the groups of which mixtures can be left out. Freeze
    all others over which a norm normalises."""
    own = {group.atom: group for group in groups}
    written = {index: norm for norm in written_norms(typing.graph) for index in norm.nodes}
    for flow in typing.flows:
        node = flow.record.node
        detail = "reduces over it" if node.index in written else "normalises over it"
        reason = Reason("operator", node.label, detail, node.op)
        for term in flow.record.normalised:
            resolved = algebra.resolve(term)
            group = own.get(resolved) if isinstance(resolved, Atom) else None
            if group is not None and group.normalised is not None:
                continue
            found = norms_between(typing, group, written) if group is not None and group.frozen is None else None
            if group is None or found is None:
                algebra.freeze(term, reason)
            else:
                group.normalised, group.norms = reason, found


def norms_between(typing: Typing, group: ChannelGroup, written: Mapping[int, WrittenNorm]) -> dict[str, Norm] | None:
    """Tensor -> the norm whose output it is or contains, for the tensors that layers may read. None where something
    reads the channels that does not go with rotations of them. ``written``: norms of several nodes, by each node."""
    norms: dict[str, Norm] = {}
    if group.unmixable is not None:
        return None
    over = {step.flow.record.node.index for step in group.steps if step.normalises}
    for step in group.steps:
        node = step.flow.record.node
        part = written.get(node.index)
        if part is not None and over & part.nodes:
            found = _written(typing, part, node, group.size)
            if found is None or part.source in norms:
                return None
            norms.update(found)
        elif step.normalises:
            norm = _norm(typing, node, group.size)
            if norm is None or node.inputs[0] in norms:
                return None
            norms[node.outputs[0]] = norm
        elif not mixes(typing, step, group.atom):
            return None
        else:
            for data, outputs in step.through:
                behind = {name for name in data if name in norms}
                factor = _factor(typing.graph, step, data)
                if behind and factor is None:
                    return None  # they are scaled and shifted, other values are not
                for tensor in behind:
                    norm = norms[tensor]
                    norms.update((name, replace(norm, factor=norm.factor * (factor or 1.0))) for name in outputs)
    for step in group.steps:
        biased = any(name in norms and norms[name].bias for name in step.consumed)
        if biased and pads(step.flow.record.node):
            return None  # padded zeros are no output of the norm
    bare = any(name not in norms for step in group.steps for name in step.consumed)
    centred = {norm.centred for norm in norms.values()}
    return None if len(centred) > 1 or (bare and True in centred) else norms


def _factor(graph: Graph, step: Step, data: Sequence[str]) -> float | None:
    """By what a node multiplies the outputs of a norm: 1 where it moves them, or gives means; None where it does
    something else."""
    node = step.flow.record.node
    if len(data) > 1 or step.uses:
        return None
    if carries(step):
        return 1.0
    others = [name for name in node.inputs if name not in data]
    joins = facts_of(node.domain, node.op).joins
    if joins not in (Joins.PRODUCT, Joins.QUOTIENT) or len(others) != 1:
        return None
    number = graph.number(others[0])
    if not number:
        return None
    factor = number if joins is Joins.PRODUCT else 1 / number
    return factor if np.isfinite(factor) else None


def _norm(typing: Typing, node: Node, size: int) -> Norm | None:
    """The norm that a node is; None where its scale or its bias does not suit."""
    form = facts_of(node.domain, node.op).norm
    scale, bias = (node.inputs[k] if len(node.inputs) > k else "" for k in (1, 2))
    known = form is not None and all(_suits(typing.graph, name, size) for name in (scale, bias) if name)
    return Norm(node, scale, bias, form.centred) if form is not None and known else None


def _written(typing: Typing, norm: WrittenNorm, node: Node, size: int) -> dict[str, Norm] | None:
    """The output of ``norm`` with the norm, if ``node`` gives it, nothing for its other nodes; None where scale or bias
    does not suit."""
    if not all(_suits(typing.graph, name, size) for name in (norm.scale, norm.bias) if name):
        return None
    (epsilon, k), ends = norm.epsilon, norm.output in node.outputs
    return {norm.output: Norm(epsilon, norm.scale, norm.bias, norm.centred, k)} if ends else {}


def _suits(graph: Graph, name: str, size: int) -> bool:
    """Whether a constant is an initializer with a finite number for each channel."""
    if name not in graph.initializers:
        return False
    values = graph.array(name)
    return values.shape == (size,) and values.dtype.kind == "f" and bool(np.isfinite(values).all())
