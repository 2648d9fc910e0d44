"""Infers the type of every axis: each gets a term, op rules state how a node's axes relate, and unification solves."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from passes.axes import algebra
from passes.axes.algebra import Atom, Term
from passes.axes.overridden_sizes import overridden_sizes
from passes.axes.registry import find_rule, without_rule
from passes.axes.rule_context import Op, Record, Resize, Scaling
from passes.graph.functions import why_called
from passes.graph.model import Graph, Node
from passes.interface.errors import Refusal
from passes.interface.reason import INSIDE, OUTPUT, TENSOR, Reason, axis_of, overridden
from passes.shapes.origins import NOWHERE, Place
from passes.shapes.sizes import Size


class Role(Enum):
    """The role of an index set in one of a node's constants."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    CHANNEL = "per-channel"


@dataclass(frozen=True)
class Use:
    """``letter`` is on axis ``axis`` of constant operand ``k`` (tensor ``constant``) in the given role."""

    constant: str
    k: int
    axis: int
    letter: Atom
    role: Role


@dataclass
class IndexFlow:
    """What one node does with its index sets. Letters are local atoms, to be resolved when read."""

    record: Record
    uses: list[Use] = field(default_factory=list)
    through: dict[Atom, tuple[list[int], list[int]]] = field(default_factory=dict)
    """letter -> (data inputs, outputs) between which it passes."""
    consumed: dict[Atom, list[int]] = field(default_factory=dict)
    """letter -> data inputs over which the node sums it with a constant."""
    produced: dict[Atom, list[int]] = field(default_factory=dict)
    """letter -> outputs in which the node produces it."""
    contracted: dict[Atom, list[int]] = field(default_factory=dict)
    """letter -> data inputs that hold it, where the node sums over it without constants."""

    @property
    def scaling(self) -> Scaling:
        """How a scale on the data passes through the node."""
        return self.record.scaling


@dataclass
class Typing:
    """Terms of all axes, and flows of all nodes."""

    graph: Graph
    axes: dict[str, list[Term]]
    flows: list[IndexFlow]
    resizes: list[tuple[IndexFlow, Resize]]
    refused: dict[int, Reason] = field(default_factory=dict)
    """node index -> why its rule does not type its axes."""
    identities: frozenset[str] = frozenset()
    """Weights of the identity layers that were added at the ends of residual streams
    (`passes.streams.identity_layers`)."""


def infer(graph: Graph) -> Typing:
    """Run the rule of every node and unify. Never fails: nodes that no rule describes are frozen with the reason."""
    axes = {name: _fresh_axes(graph, name) for name in graph.info.sizes}
    typing = Typing(graph, axes, [], [])
    for name in graph.inputs:
        given = name in graph.overridable
        _freeze_tensor(typing, name, overridden(name) if given else Reason("tensor", name, "is a graph input"))
    for name in graph.captured:
        _freeze_tensor(typing, name, Reason("tensor", name, INSIDE))
    sizing = overridden_sizes(graph.model)
    for node in graph.nodes:
        op = Op(graph, node)
        if _computes_numbers(graph, node):
            for name in (*node.inputs, *node.outputs):  # constants that it reads may be spread by others before
                _freeze_tensor(typing, name, op.why("computes numbers, not features"))
            continue
        rule = find_rule(node.domain, node.op)
        try:
            if rule is None:
                raise Refusal(why_called(graph.model, node.domain, node.op) or without_rule(node.domain, node.op))
            if node.index in sizing:
                raise Refusal(f"takes sizes from {TENSOR}, which callers may override", sizing[node.index])
            rule(op)
            flow = _finish(typing, op)
        except Refusal as refusal:
            _freeze_node(typing, op, op.why(str(refusal), refusal.place))
            continue
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:  # unexpected form
            _freeze_node(typing, op, op.why(f"rule failed: {type(error).__name__}: {error}"))
            continue
        typing.flows.append(flow)
        typing.resizes.extend((flow, resize) for resize in flow.record.resizes)
    for name in graph.outputs:
        _freeze_tensor(typing, name, Reason("tensor", name, "is a graph output"))
    _freeze_computed_reads(typing)
    _freeze_divisions(typing)
    _freeze_varying(typing)
    return typing


def _freeze_varying(typing: Typing) -> None:
    """Freeze axes whose size varies between assignments: they are not channels."""
    for name, axes in typing.axes.items():
        for axis, term in enumerate(axes):
            for a in algebra.atoms(term):
                if isinstance(a.size, Size) and a.reason is None:
                    a.reason = _dynamic(name, axis)


def _freeze_divisions(typing: Typing) -> None:
    """Freeze the groups of a node where the channels inside them can be removed: whole groups stay."""
    normalised = {a for flow in typing.flows for term in flow.record.normalised for a in algebra.atoms(term)}
    for flow in typing.flows:
        for groups, inside in flow.record.divided:
            if any(a.reason is None and a not in normalised for a in algebra.atoms(inside)):
                node = flow.record.node
                detail = "loses channels inside its groups, not whole groups"
                algebra.freeze(groups, Reason("operator", node.label, detail, node.op))


def _computes_numbers(graph: Graph, node: Node) -> bool:
    """Whether all outputs are known integers computed from shapes: sizes, indices, masks. None of them has channels.

    But an Expand may repeat indices for each channel, as ScatterElements takes them."""
    info = graph.info
    return node.op not in ("Shape", "Size", "Expand") and all(
        n in info.origins and info.values[n].dtype.kind in "iub" for n in node.outputs if n
    )


def shape_reads(typing: Typing, resized: set[tuple[int, int]]) -> list[tuple[Node, int, str]]:
    """(node, input, tensor) where a number computed from a shape is used for something other than shape arithmetic."""
    info, initializers = typing.graph.info, typing.graph.initializers
    return [
        (node, k, name)
        for node in typing.graph.nodes
        if not all(n in info.values for n in node.outputs)
        for k, name in enumerate(node.inputs)
        if name in info.origins and name not in initializers and (node.index, k) not in resized
    ]


def _freeze_computed_reads(typing: Typing) -> None:
    """Freeze the axes from which a value is computed that depends on sizes, some of them dynamic, and is not a target
    that can be rewritten."""
    info = typing.graph.info
    resized = {(flow.record.node.index, r.target) for flow, r in typing.resizes if isinstance(r.target, int)}
    reads = [(name, node.label, node.op) for node, _, name in shape_reads(typing, resized) if name in info.varying]
    reads += [(name, "", "a control-flow body") for name in sorted(typing.graph.captured)]
    for name, user, op in reads + [(name, "", OUTPUT) for name in typing.graph.outputs]:
        for tensor, axis in content_places(typing, name):
            algebra.freeze(typing.axes[tensor][axis], Reason("size", user, "", op, axis_of(tensor, axis)))


def places(typing: Typing, name: str) -> list[Place]:
    """The axes whose sizes tensor ``name`` is computed from."""
    origins = typing.graph.info.origins.get(name)
    return [] if origins is None else sorted(NOWHERE.union(*origins.ravel()))


def content_places(typing: Typing, name: str) -> list[Place]:
    """The axes whose sizes the numbers in tensor ``name`` are computed from. The target of an Expand, which follows the
    sizes of axes, says only how often the numbers are repeated."""
    maker = typing.graph.producer.get(name)
    expands = maker is not None and maker.op == "Expand"
    follows = expands and any(f.record.node is maker and resize.target == 1 for f, resize in typing.resizes)
    return places(typing, maker.inputs[0] if maker is not None and follows else name)


def _fresh_axes(graph: Graph, name: str) -> list[Term]:
    dynamic = graph.info.dynamic
    return [
        algebra.atom(n, _dynamic(name, axis) if (name, axis) in dynamic and type(n) is int else None)
        for axis, n in enumerate(graph.info.sizes[name])
    ]


def _dynamic(name: str, axis: int) -> Reason:
    return Reason("size", "", "is dynamic", place=axis_of(name, axis))


def _freeze_node(typing: Typing, op: Op, reason: Reason) -> None:
    typing.refused[op.node.index] = reason
    for name in (*op.node.inputs, *op.node.outputs):
        _freeze_tensor(typing, name, reason)


def _freeze_tensor(typing: Typing, name: str, reason: Reason) -> None:
    for term in typing.axes.get(name, ()):
        algebra.freeze(term, reason)


@dataclass
class _Membership:
    """The places of one local atom: constant operands with their axis, data operands, outputs."""

    constants: list[tuple[int, int]] = field(default_factory=list)
    data: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


def _finish(typing: Typing, op: Op) -> IndexFlow:
    """Derive the roles from the places of the letters. Then unify the letters with the axes of the tensors."""
    node, record = op.node, op.record
    members: dict[Atom, _Membership] = {}
    for place in record.places:
        for a in algebra.atoms(place.term):
            member = members.setdefault(a, _Membership())
            if place.output:
                member.outputs.append(place.k)
            elif op.is_constant(place.k):
                member.constants.append((place.k, place.axis))
            else:
                member.data.append(place.k)
    flow = _classify(op, members)
    touched: set[tuple[str, int]] = set()
    for place in record.places:
        name = (node.outputs if place.output else node.inputs)[place.k]
        algebra.unify(typing.axes[name][place.axis], place.term, op.why())
        touched.add((name, place.axis))
    for term, made in record.fed_back:
        algebra.unify(term, made, op.why())
    for name in (*node.inputs, *node.outputs):
        for axis, term in enumerate(typing.axes.get(name, ())):
            if (name, axis) not in touched:
                op.freeze(term, "reads it as a parameter" if name in node.inputs else "does not say what it holds")
    return flow


def _classify(op: Op, members: dict[Atom, _Membership]) -> IndexFlow:
    flow = IndexFlow(op.record)
    dropped = {a for term in op.record.dropped for a in algebra.atoms(term)}
    summed = {a for term in op.record.summed for a in algebra.atoms(term)}
    made = {a for term in op.record.started for a in algebra.atoms(term)}
    fed_back = {a for term, _ in op.record.fed_back for a in algebra.atoms(term)}
    sized = {
        a
        for r in op.record.resizes
        for e in r.entries
        if e is not None and not isinstance(e, int)
        for a in algebra.atoms(e)
    }
    for a, member in members.items():
        data, outputs, constants = member.data, member.outputs, member.constants
        role: Role | None = None
        if outputs and data:
            flow.through[a] = (data, outputs)
            role = Role.PRODUCER if a in made else Role.CHANNEL
            if a in made:
                flow.produced[a] = outputs
        elif outputs:
            role = Role.PRODUCER
            flow.produced[a] = outputs
            if not constants and a not in sized:
                op.freeze(a, "makes it from nothing")
        elif constants and (data or a in fed_back):
            flow.consumed[a] = data
            role = Role.CONSUMER
        elif len(data) > 1 or (data and a in summed):
            flow.contracted[a] = data
        elif data and a not in dropped:
            op.freeze(a, "reduces over it")
        elif constants and a not in dropped:
            op.freeze(a, "has it in a constant only")
        if role is not None:
            flow.uses.extend(Use(op.node.inputs[k], k, axis, a, role) for k, axis in constants)
    return flow
