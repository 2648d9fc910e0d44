"""Finds the channel groups: for each atom that a layer produces, every place from which an index must be removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from onnx import TensorProto

from passes.axes import algebra
from passes.axes.algebra import Atom, Term
from passes.axes.inference import IndexFlow, Role, Typing, Use
from passes.axes.rule_context import Scaling
from passes.graph.model import Node
from passes.graph.node_parsing import numbered
from passes.interface.reason import Reason

LISTED = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
"""Element types of lists of indices, of ids and of masks. Narrower integers are quantised weights."""


@dataclass
class Step:
    """What one node does with one group. Steps are in graph order."""

    flow: IndexFlow
    uses: list[Use] = field(default_factory=list)
    through: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """(data tensors, output tensors) that the channel passes between."""
    consumed: list[str] = field(default_factory=list)
    """Data tensors whose channels the node sums over with a constant."""
    produced: list[str] = field(default_factory=list)
    """Output tensors whose channels the node produces."""
    summed: list[str] = field(default_factory=list)
    """Data tensors over whose channels the node sums without constants: products of several, or one alone."""
    prepares: bool = False
    """Whether the node only computes constants from constants, as DequantizeLinear does for weights."""
    normalises: bool = False
    """Whether the node is a norm over the channels, or averages them for one."""
    slid: bool = False
    """Whether the node mixes neighbouring channels and outputs as many."""

    @property
    def read(self) -> str:
        """The first data tensor whose channels the node sums over; ``""`` if it reads only its own state."""
        return self.consumed[0] if self.consumed else ""

    @property
    def contracted(self) -> bool:
        """Whether the node sums over the channels without constants."""
        return bool(self.summed)

    @property
    def feeds_back(self) -> bool:
        """Whether the node produces the channels and reads them itself, at the next step of the sequence."""
        return bool(self.flow.record.fed_back) and bool(self.produced)

    @property
    def scaling(self) -> Scaling:
        """How a scale on the channels passes through the node. It depends on which inputs hold them: a quotient is
        linear in the numerator alone."""
        record = self.flow.record
        held = {name for data, _ in self.through for name in data}
        blocked = any(record.node.inputs[k] in held for k in record.unscaled)
        return Scaling.NONE if blocked else self.flow.scaling

    @property
    def label(self) -> str:
        """Name of the node."""
        return self.flow.record.node.label

    def with_role(self, role: Role) -> list[Use]:
        """The uses in the given role."""
        return [use for use in self.uses if use.role is role]

    def is_offset(self, use: Use) -> bool:
        """Whether the constant is added to the channel rather than multiplied with it."""
        return use.k in self.flow.record.offsets


@dataclass(frozen=True)
class Norm:
    """What normalises over the channels: a node, or several (`passes.graph.written_norms`). ``scale`` and ``bias``:
    names of its constants (C,), "" for none; ``centred``: whether it subtracts the mean. ``epsilon``: the node that
    has it as an attribute, or as its input ``epsilon_input``. ``factor``: of its output, behind it."""

    epsilon: Node
    scale: str
    bias: str
    centred: bool
    epsilon_input: int | None = None
    factor: float = 1.0


@dataclass
class ChannelGroup:
    """Channels that can only be removed together: the indices of one atom."""

    atom: Atom
    steps: list[Step]
    name: str = ""
    """Name of the first layer that produces the channels. From the second group of that layer on, a number follows."""
    where: str = ""
    """Prefix of the names of the layers, from the control-flow body that they are in."""
    coupled: Reason | None = None
    """Why the group ties several layers. None for a plain producer-consumer pair."""
    unmixable: Reason | None = None
    """Why channels cannot be merged into the consumers. They can still be removed."""
    normalised: Reason | None = None
    """Why no channel can be removed alone, where mixtures of them can (`passes.analysis.normalised_channels`)."""
    norms: dict[str, Norm] = field(default_factory=dict)
    """In that case, tensor -> the norm whose output it is or contains."""
    shares_weights: bool = False
    """Whether that is only since several consumers read the same weights."""

    @property
    def size(self) -> int:
        """Number of channels."""
        return self.atom.size

    @property
    def frozen(self) -> Reason | None:
        """Why nothing may be removed."""
        return self.atom.reason

    @property
    def recurrent(self) -> bool:
        """Whether they are hidden units of a recurrent layer."""
        return any(step.feeds_back for step in self.steps)

    @property
    def producers(self) -> list[str]:
        """Nodes whose weights produce the channels. Where there are none, nodes that produce them by an added
        constant."""
        made = [step for step in self.steps if not step.prepares and step.with_role(Role.PRODUCER)]
        layers = [step for step in made if any(not step.is_offset(use) for use in step.with_role(Role.PRODUCER))]
        return self._labels(layers or made)

    @property
    def consumers(self) -> list[str]:
        """Nodes that sum over the channels."""
        return self._labels(step for step in self.steps if step.consumed or step.contracted)

    @property
    def unmergeable(self) -> Reason | None:
        """Why not even copies can be merged into the consumers. None where weights that consumers share can be
        rewritten, if that suits all of them."""
        return None if self.shares_weights else self.unmixable

    def consumer_uses(self) -> list[tuple[Step, Use]]:
        """Constants that multiply the channels and whose products are summed."""
        return [(step, use) for step in self.steps for use in step.with_role(Role.CONSUMER)]

    def _labels(self, steps: Iterable[Step]) -> list[str]:
        return [f"{self.where}{label}" for label in dict.fromkeys(step.label for step in steps)]


def channel_groups(typing: Typing, where: str = "") -> list[ChannelGroup]:
    """Groups of two channels or more that some layer's weights produce, in graph order, including frozen ones. Axes
    that only lists of indices, ids or masks give are none where they are frozen.

    ``where``: prefix of the names of their layers.
    """
    groups: dict[Atom, ChannelGroup] = {}
    for flow in typing.flows:
        for a, step in _steps(flow, typing.graph.constants).items():
            groups.setdefault(a, ChannelGroup(a, [], where=where)).steps.append(step)
    made = [g for g in groups.values() if g.producers and not _is_input_side_only(g)]
    found = [g for g in made if g.frozen is None or _has_features(g, typing)]
    summed = _atoms_in_sums(typing)
    for group in found:
        group.coupled = _coupling(group, summed)
        group.unmixable = _unmixable(group, typing)
        if group.unmixable is None:
            group.unmixable = _shared_weights(group, typing)
            group.shares_weights = group.unmixable is not None and _shared_within(group, typing)
    found.sort(key=lambda g: next(step for step in g.steps if not step.prepares).flow.record.node.index)
    # The initial states of a recurrent layer are not included.
    own = [[step.label for step in group.steps if step.feeds_back] for group in found]
    firsts = [f"{where}{o[0]}" if o else group.producers[0] for o, group in zip(own, found, strict=True)]
    for group, name in zip(found, numbered(firsts), strict=True):
        group.name = name
    return found


def _is_input_side_only(group: ChannelGroup) -> bool:
    """Index sets that occur in constants but never in an output, such as kernel axes."""
    return not any(step.with_role(Role.PRODUCER) for step in group.steps)


def _has_features(group: ChannelGroup, typing: Typing) -> bool:
    """Whether the channels come from weights, not only from lists of indices, ids to compare with, or masks."""
    made = [use.constant for step in group.steps for use in step.with_role(Role.PRODUCER)]
    initializers, integers = typing.graph.initializers, typing.graph.integers
    return any(
        name not in integers or (name in initializers and initializers[name].data_type not in LISTED) for name in made
    )


def _steps(flow: IndexFlow, constants: Set[str]) -> dict[Atom, Step]:
    """The node's step in each group that one of its letters belongs to."""
    steps: dict[Atom, Step] = {}
    node = flow.record.node
    prepares = all(name in constants for name in node.outputs if name)

    def step_of(letter: Term) -> Iterator[Step]:
        for a in dict.fromkeys(algebra.atoms(letter)):
            yield steps.setdefault(a, Step(flow, prepares=prepares))

    for use in flow.uses:
        for step in step_of(use.letter):
            step.uses.append(use)
    for letter, outputs in flow.produced.items():
        for step in step_of(letter):
            step.produced.extend(node.outputs[k] for k in outputs)
    for letter, (data, outputs) in flow.through.items():
        for step in step_of(letter):
            step.through.append(([node.inputs[k] for k in data], [node.outputs[k] for k in outputs]))
    for letter, data in flow.consumed.items():
        for step in step_of(letter):
            step.consumed.extend(node.inputs[k] for k in data)
    for letter, data in flow.contracted.items():
        for step in step_of(letter):
            step.summed.extend(node.inputs[k] for k in data)
    for term in flow.record.normalised:
        for step in step_of(term):
            step.normalises = True
    for term in flow.record.slid:
        for letter in algebra.atoms(term):
            for step in step_of(letter):
                step.slid = True
    return steps


def _atoms_in_sums(typing: Typing) -> dict[Atom, str]:
    """Atoms that share a concatenated axis of some tensor with others -> that tensor's name."""
    found: dict[Atom, str] = {}
    for name, axes in typing.axes.items():
        for term in axes:
            resolved = algebra.resolve(term)
            if isinstance(resolved, algebra.Sum):
                for a in algebra.atoms(resolved):
                    found.setdefault(a, name)
    return found


def _coupling(group: ChannelGroup, summed: dict[Atom, str]) -> Reason | None:
    producers = group.producers
    if len(producers) > 1:
        return Reason("coupled", producers[0], f"shared by {len(producers)} layers", place=producers[1])
    if group.atom in summed:
        return Reason("coupled", "", "concatenated", place=summed[group.atom])
    return None


def _unmixable(group: ChannelGroup, typing: Typing) -> Reason | None:
    """Why a merge cannot write into the consumers' constants: they must be initializers, with the same meaning for
    every reader."""
    roles: dict[tuple[str, int], set[Role]] = {}
    for step in group.steps:
        if step.contracted:
            several = len(step.summed) > 1
            return Reason(
                "layer", step.label, "multiplies two activations" if several else "sums over them without weights"
            )
        if len(step.consumed) > 1:
            return Reason("layer", step.label, "multiplies two activations")
        if step.slid:
            return Reason("layer", step.label, "mixes neighbouring channels")
        if any(group.atom in {*algebra.atoms(made)} for _, made in step.flow.record.fed_back):
            return Reason("layer", step.label, "feeds them back to itself")
        if len(step.with_role(Role.CONSUMER)) > 1:
            return Reason("layer", step.label, "multiplies them with two constants")
        for use in step.uses:
            roles.setdefault((use.constant, use.axis), set()).add(use.role)
            if use.role is Role.CONSUMER and use.constant not in typing.graph.initializers:
                return Reason("weights", step.label, f"weights are {_origin(typing, use.constant)}")
    for (constant, _), seen in roles.items():
        if len(seen) > 1:
            return Reason("constant", constant, "is read in two ways")
    return None


def _shared_weights(group: ChannelGroup, typing: Typing) -> Reason | None:
    """The weights of a consumer that other nodes read too, as a reason."""
    for _, use in group.consumer_uses():
        if len(typing.graph.users[use.constant]) > 1:
            return Reason("constant", use.constant, "is read by several nodes")
    return None


def _shared_within(group: ChannelGroup, typing: Typing) -> bool:
    """Whether the consumers of the group are all that read their weights, and read them alike."""
    reads = {(step.flow.record.node.index, use.k): use.axis for step, use in group.consumer_uses()}
    axes: dict[str, set[int]] = {}
    for _, use in group.consumer_uses():
        for node, k in typing.graph.users[use.constant]:
            axes.setdefault(use.constant, set()).add(reads.get((node.index, k), -1))
    return all(len(own) == 1 and -1 not in own for own in axes.values())


def read_alike(group: ChannelGroup) -> list[list[str]]:
    """The tensors whose channels are summed with constants, those together that the same constants read."""
    found: list[tuple[set[str], list[str]]] = []
    for step, use in group.consumer_uses():
        same = [one for one in found if use.constant in one[0] or step.read in one[1]]
        constants = {use.constant}.union(*(one[0] for one in same))
        names = dict.fromkeys([name for one in same for name in one[1]] + [step.read])
        found = [one for one in found if one not in same] + [(constants, [*names])]
    return [names for _, names in found]


def _origin(typing: Typing, constant: str) -> str:
    """How a constant that is not an initializer is computed. Layout changes may follow where it is dequantised."""
    maker = typing.graph.producer.get(constant)
    while maker is not None and maker.op != "DequantizeLinear":
        maker = typing.graph.producer.get(maker.inputs[0]) if maker.inputs else None
    return "computed in the graph" if maker is None else "quantised"
