"""Finds layer pairs: two consecutive linear layers whose hidden channels no other layer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Atom, Product
from passes.axes.index_maps import Indices
from passes.axes.inference import Typing
from passes.axes.op_facts import Range
from passes.axes.registry import facts_of
from passes.graph.model import Graph, Node
from passes.layer_pairs.activation_stages import stages_between
from passes.layer_pairs.differentiable_ops import Stage
from passes.shapes.constants import STANDARD_DOMAINS
from passes.statistics.linear_layers import LinearLayer


@dataclass(frozen=True, eq=False)
class LayerPair:
    """``first`` and ``second`` with the ``stages`` between them. ``bounds``: of the Relu or the Clip that alone reads
    the output of ``second``, or the sum that this output goes into. None if others read it."""

    first: LinearLayer
    second: LinearLayer
    stages: tuple[Stage, ...]
    bounds: Range | None


def find_layer_pairs(
    typing: Typing, layers: Sequence[LinearLayer], keep: Mapping[Atom, Indices]
) -> dict[LinearLayer, LayerPair]:
    """Second layer -> layer pair, for the groups in ``keep``."""
    makers = {layer.output: layer for layer in layers}
    found: dict[LinearLayer, LayerPair] = {}
    for second in layers:
        atom = _hidden(typing, second)
        if atom is None or atom not in keep or not _fits(typing, second):
            continue
        for output, first in makers.items():
            if output not in typing.axes:  # its shape is not known
                continue
            channel = typing.axes[output][first.axis]
            if algebra.resolve(channel) is atom and first is not second and _fits(typing, first):
                stages = stages_between(typing, output, second.data, atom, keep[atom])
                if stages is not None:
                    found[second] = LayerPair(first, second, tuple(stages), _bounds(typing.graph, second))
    return found


def _hidden(typing: Typing, layer: LinearLayer) -> Atom | None:
    """The atom on the layer's input channels. None if there are several, or if the shape is not known."""
    if layer.data not in typing.axes:
        return None
    term = algebra.resolve(typing.axes[layer.data][layer.axis])
    if isinstance(term, Product) and term.factors and not layer.convolves:  # without factors: a single channel
        first, *rest = (algebra.resolve(f) for f in term.factors)
        return first if isinstance(first, Atom) and first not in rest else None
    return term if isinstance(term, Atom) else None


def _fits(typing: Typing, layer: LinearLayer) -> bool:
    return layer.groups == 1 and typing.graph.array(layer.weight).dtype == np.float32


def _bounds(graph: Graph, layer: LinearLayer) -> Range | None:
    """``bounds`` of a `LayerPair` with ``layer`` as the second one."""
    name = layer.sum or layer.output
    users = graph.users[name]
    if name in {*graph.outputs, *graph.captured} or any(user.inputs[0] != name for user, _ in users):
        return None
    found = {_passing(graph, user) for user, _ in users}
    return found.pop() if len(found) == 1 else None


def _passing(graph: Graph, node: Node) -> Range | None:
    """The bounds between which ``node`` lets its input pass, and beyond which it lets nothing through."""
    if node.op not in ("Relu", "Clip") or node.domain not in STANDARD_DOMAINS:
        return None
    found = facts_of(node.domain, node.op).values(graph, node)
    return found if found is not None and found[0] < found[1] and np.isfinite(found).any() else None
