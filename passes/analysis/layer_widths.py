"""Lists the layers of a model with their channels and multiply-adds, before and after channels are removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from passes.analysis.known import Analysis
from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.index_maps import axis_size
from passes.axes.inference import IndexFlow, Role, Typing
from passes.cost.footprint import Widths, node_footprint


@dataclass(frozen=True, slots=True)
class LayerWidth:
    """One layer: a node that multiplies by constants.

    ``size``, ``kept``: channels that it produces, before and after. ``macs``, ``macs_kept``: multiply-adds of one
    sample, before and after. ``group``: name of the first channel group that these channels belong to, None if they
    belong to none.
    """

    name: str
    op: str
    size: int
    kept: int
    macs: int
    macs_kept: int
    group: str | None


def layer_widths(analysis: Analysis, widths: Widths) -> tuple[LayerWidth, ...]:
    """The layers of a model and of its control-flow bodies, in graph order. ``widths``: channels kept of each group."""
    found: list[LayerWidth] = []
    for part, _ in analysis.parts():
        groups = {algebra.resolve(group.atom): group.name for group in reversed(part.groups)}
        found += _layers(part.typing, part.where, groups, widths)
    return tuple(found)


def _layers(typing: Typing, where: str, groups: Mapping[Term, str], widths: Widths) -> Iterator[LayerWidth]:
    for flow in typing.flows:
        term = _channels(typing, flow)
        if term is None:
            continue
        node = flow.record.node
        footprint = node_footprint(typing, node)
        if not footprint.total:
            continue
        names = (groups[atom] for atom in algebra.atoms(term) if atom in groups)
        yield LayerWidth(
            f"{where}{node.label}",
            node.op,
            algebra.size(term),
            axis_size(term, widths),
            footprint.total,
            footprint.at(widths),
            next(names, None),
        )


def _channels(typing: Typing, flow: IndexFlow) -> Term | None:
    """The type of the axis of the layer's weights along which its output channels lie; None if it has no weights."""
    for role in (Role.PRODUCER, Role.CHANNEL):
        for use in flow.uses:
            if use.role is role and use.k not in flow.record.offsets:
                return typing.axes[use.constant][use.axis]
    return None
