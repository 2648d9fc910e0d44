"""Two layers in a row whose hidden channels nobody else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.calibrated.layers import Layer
from passes.calibrated.path import path
from passes.calibrated.stages import Stage
from passes.graph import terms
from passes.graph.infer import Typing
from passes.graph.model import Graph
from passes.graph.terms import Atom, Product
from passes.project import Indices


@dataclass(frozen=True, eq=False)
class Unit:
    """``first`` and ``second`` with the ``stages`` between; ``rectified``: whether a Relu alone reads the second's
    output or the sum that it goes into."""

    first: Layer
    second: Layer
    stages: tuple[Stage, ...]
    rectified: bool


def find_units(typing: Typing, layers: Sequence[Layer], keep: Mapping[Atom, Indices]) -> dict[Layer, Unit]:
    """Second layer -> unit, for the groups in ``keep``."""
    makers = {layer.output: layer for layer in layers}
    found: dict[Layer, Unit] = {}
    for second in layers:
        atom = _hidden(typing, second)
        if atom is None or atom not in keep or not _fits(typing, second):
            continue
        for output, first in makers.items():
            channel = typing.axes[output][first.axis]
            if terms.resolve(channel) is atom and first is not second and _fits(typing, first):
                stages = path(typing, output, second.data, atom, keep[atom])
                if stages is not None:
                    found[second] = Unit(first, second, tuple(stages), _rectified(typing.graph, second))
    return found


def _hidden(typing: Typing, layer: Layer) -> Atom | None:
    """The atom that a layer reads; nothing if it is several."""
    term = terms.resolve(typing.axes[layer.data][layer.axis])
    if isinstance(term, Product) and term.factors and not layer.convolves:  # without factors: a single channel
        first, *rest = (terms.resolve(f) for f in term.factors)
        return first if isinstance(first, Atom) and first not in rest else None
    return term if isinstance(term, Atom) else None


def _fits(typing: Typing, layer: Layer) -> bool:
    return layer.groups == 1 and typing.graph.array(layer.weight).dtype == np.float32


def _rectified(graph: Graph, layer: Layer) -> bool:
    name = layer.sum or layer.output
    users = graph.users[name]
    return name not in {*graph.outputs, *graph.captured} and bool(users) and all(user.op == "Relu" for user, _ in users)
