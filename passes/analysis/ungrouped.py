"""Lists the layers in no channel group, with the reason.

These are nodes with multiply-adds or weights that depend on no group's channels. Together with the groups' part they
are the whole model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import onnx

from passes.analysis.analyse import Analysis
from passes.axes import algebra
from passes.axes.algebra import Atom, Term
from passes.axes.channel_groups import ChannelGroup
from passes.axes.index_maps import axis_size
from passes.axes.inference import IndexFlow, Role, Typing
from passes.axes.registry import facts_of, is_quantised
from passes.cost.cost import weights_inside
from passes.cost.footprint import constant_sizes, node_footprint
from passes.cost.multiplications import multiplying, weight_inputs
from passes.graph.model import Node
from passes.graph.nodes import subgraphs
from passes.interface.reason import Reason
from passes.transforms.subgraphs import ATTRIBUTES


@dataclass(frozen=True)
class Ungrouped:
    """A node of a graph, and its name in the model. ``macs``, ``params``: its multiply-adds and weights that depend on
    no group's channels. ``reason``: why they do not."""

    node: Node
    label: str
    reason: Reason
    macs: int
    params: int
    is_layer: bool
    """Whether it multiplies, or holds more than single numbers."""


def every_ungrouped(analysis: Analysis) -> list[Ungrouped]:
    """`ungrouped` of a model and of the control-flow bodies in it."""
    found: list[Ungrouped] = []
    for part, elsewhere in analysis.parts():
        known = frozenset((one.body.node.index, one.body.attribute) for one in part.inside)
        found += ungrouped(part.typing, part.groups, known, elsewhere, part.where)
    return found


def ungrouped(
    typing: Typing,
    groups: Sequence[ChannelGroup],
    known: Set[tuple[int, str]] = frozenset(),
    elsewhere: Set[str] = frozenset(),
    where: str = "",
) -> list[Ungrouped]:
    """Every node with a part in no group, in graph order, including nodes that hold single numbers only (an epsilon, a
    factor).

    ``known``: (node, attribute) of bodies that are analysed by themselves. ``elsewhere``: constants that count in them.
    ``where``: prefix of the names.
    """
    graph = typing.graph
    gone = dict.fromkeys((group.atom for group in groups), 0)
    held: dict[int, list[tuple[str, list[Term], int]]] = defaultdict(list)
    for name, axes in constant_sizes(typing, elsewhere).items():
        reader, left = _reader(typing, name), _size(axes, gone)
        if reader is not None and left:
            held[reader.index].append((name, axes, left))
    flows = {flow.record.node.index: flow for flow in typing.flows}
    found = []
    for node in graph.nodes:
        macs = node_footprint(typing, node).at(gone)
        attributes = graph.model.graph.node[node.index].attribute
        unknown = [a for a in attributes if (node.index, a.name) not in known]
        inside = weights_inside(onnx.NodeProto(attribute=unknown)) if node.captures or node.op in ATTRIBUTES else 0
        params = inside + sum(left for *_, left in held[node.index])
        if macs or params:
            axes = [term for _, axes, _ in held[node.index] for term in axes]
            reason = _reason(typing, node, flows.get(node.index), axes, gone)
            sizing = {node.inputs[k] for k in facts_of(node.domain, node.op).sizing if k < len(node.inputs)}
            several = inside or any(left > 1 and name not in sizing for name, _, left in held[node.index])
            found.append(Ungrouped(node, f"{where}{node.label}", reason, macs, params, bool(macs or several)))
    return found


def _size(axes: Sequence[Term], gone: Mapping[Atom, int]) -> int:
    return math.prod(int(axis_size(term, gone)) for term in axes)


def _reader(typing: Typing, name: str) -> Node | None:
    """The node that uses a constant, not a node that only prepares it."""
    graph = typing.graph
    for node, _ in graph.users[name]:
        made = [n for n in node.outputs if n]
        if not all(n in graph.constants for n in made):
            return node
        behind = [reader for reader in (_reader(typing, n) for n in made) if reader is not None]
        if behind:
            return behind[0]
    return next((node for node in graph.nodes if name in node.captures), None)


def _reason(
    typing: Typing, node: Node, flow: IndexFlow | None, axes: Sequence[Term], gone: Mapping[Atom, int]
) -> Reason:
    """``axes``: of its constants."""
    here = Reason("operator", node.label, "", node.op)
    if subgraphs(typing.graph.model.graph.node[node.index]):
        return here.saying("reads its weights inside a control-flow body")
    if node.index in typing.refused:
        return typing.refused[node.index]
    order = (Role.PRODUCER, Role.CHANNEL, Role.CONSUMER)  # its own channels first
    uses = sorted(flow.uses, key=lambda use: (order.index(use.role), -use.letter.size)) if flow else []
    if flow is not None and flow.record.slid:
        return here.saying("slides over its channels: its filter is one for all of them")
    if multiplying(node) is not None:
        if not any(name in typing.graph.constants for name in weight_inputs(node)):
            return here.saying("multiplies activations: it has no weights of its own")
        made = [use.letter for use in uses if use.role is not Role.CONSUMER]
        if not any(a for letter in made for a in algebra.atoms(letter)):
            if any(algebra.size(letter) > 1 for letter in made):
                return here.saying("makes channels of which each is tied to a place of its own")
            return here.saying("makes a single channel of what no layer makes")
    letters = [*(use.letter for use in uses), *axes]
    nobodys = here.saying("works on channels that no layer's weights make")
    reasons = (a.reason or nobodys for letter in letters for a in algebra.atoms(letter) if a not in gone)
    return next(reasons, here.saying("has weights that stand on no channels"))


def first_quantised(typing: Typing) -> str | None:
    """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
    cut = {flow.record.node.index for flow in typing.flows}
    whole = (node for node in typing.graph.nodes if node.index not in cut and is_quantised(node.op))
    return next((f"{node.label} ({node.op})" for node in whole), None)
