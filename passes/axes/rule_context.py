"""Defines what an op rule reads and states: the `Op` of one node.

A rule names *letters*, index sets local to the node, and puts them on the axes of its operands. A letter on several
axes ties these axes. The places of a letter decide what the node does with it:

=============================  ============================================================
in a constant and the output   the node *produces* the channel
in data and a constant         the node *consumes* it
in all three                   *per-channel*
in data and the output         it passes *through*
in one data operand only       it is reduced: frozen, unless the rule drops it on purpose, or
                               sums over it without weights
=============================  ============================================================
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.node_reader import NodeReader
from passes.axes.notation import parse_pattern
from passes.graph.model import Graph, Node
from passes.interface.errors import Refusal
from passes.interface.reason import Reason
from passes.shapes.inference import Shape
from passes.shapes.sizes import Size


class Scaling(IntEnum):
    """How a scale on a channel of the data passes through an op. A smaller value is a weaker property."""

    NONE = 0
    """f(s x) is not s f(x)."""
    HOMOGENEOUS = 1
    """f(s x) = s f(x) for s >= 0; several data operands must carry the same scale."""
    LINEAR = 2
    """f(s x) = s f(x) for every s; several data operands must carry the same scale."""
    PRODUCT = 3
    """Linear in every data operand: their scales multiply."""


@dataclass(frozen=True)
class Making:
    """The constants of a node that scale the channel that it makes.

    The channel is scaled by s if two things are scaled by s: the one of the inputs ``factors`` that holds the channel,
    and every one of the inputs ``terms``.
    """

    factors: frozenset[int]
    terms: frozenset[int]


@dataclass(frozen=True)
class Place:
    """A term of local letters on axis ``axis`` of input (or output) ``k``."""

    output: bool
    k: int
    axis: int
    term: Term


@dataclass(frozen=True)
class Resize:
    """Integers that follow the size of axes: an attribute (``target`` is its name) or an input (``target`` is its
    index).

    ``entries`` has one term, or one fixed integer, for each element. None stands for elements that do not change.
    """

    target: str | int
    entries: tuple[Term | int | None, ...]
    scalar: bool = False
    pinned: float | None = None
    """The value of the attribute in place of the new size."""


@dataclass
class Record:
    """The statements of a rule about one node."""

    node: Node
    places: list[Place] = field(default_factory=list)
    resizes: list[Resize] = field(default_factory=list)
    scaling: Scaling = Scaling.NONE
    weights: frozenset[int] = frozenset()
    offsets: frozenset[int] = frozenset()
    unscaled: frozenset[int] = frozenset()
    making: Making | None = None
    """None: scaling the node's constants does not scale the channels that it makes."""
    jumps: bool = False
    """Whether a tiny change of an input may cause a large change of the output, as in Floor."""
    dropped: list[Term] = field(default_factory=list)
    summed: list[Term] = field(default_factory=list)
    slid: list[Term] = field(default_factory=list)
    started: list[Term] = field(default_factory=list)
    fed_back: list[tuple[Term, Term]] = field(default_factory=list)
    normalised: list[Term] = field(default_factory=list)
    divided: list[tuple[Term, Term]] = field(default_factory=list)
    listed: list[tuple[int, int]] = field(default_factory=list)


class Op(NodeReader):
    """One node as its rule sees it. Methods raise `Refusal` where the node is not as the rule expects."""

    def __init__(self, graph: Graph, node: Node) -> None:
        super().__init__(graph, node)
        self.record = Record(node)

    # -- reading ---------------------------------------------------------------------------------------------------
    def is_constant(self, k: int) -> bool:
        """Whether input ``k`` does not depend on the model's input."""
        return self.has(k) and self.node.inputs[k] in self.graph.constants

    def ints(self, k: int, attr: str | None = None) -> list[int]:
        """Integers from input ``k``, or from attribute ``attr`` in older opsets. Refuses where they vary."""
        if self.has(k):
            value = self.value(k)
            if value is None:
                raise Refusal(f"its input {k} is computed from {self._source(k)}")
            return [int(v) for v in value.ravel()]
        return [int(v) for v in (self.attr(attr) or ())] if attr else []

    def entries(self, k: int, attr: str | None = None) -> list[int | None]:
        """Integers from input ``k``, or from attribute ``attr`` in older opsets, with None for each that varies.
        Refuses where even their number is unknown."""
        name = self.node.inputs[k] if self.has(k) else ""
        if not name or self.value(k) is not None:
            return [*self.ints(k, attr)]
        info = self.graph.info
        if name in info.values:
            varies = info.varying[name].ravel()
            return [None if v else int(n) for n, v in zip(info.values[name].ravel(), varies, strict=True)]
        shape = info.sizes.get(name)
        if shape is None or len(shape) != 1 or isinstance(shape[0], Size):
            raise Refusal(f"its input {k} is computed from {self._source(k)}")
        return [None] * shape[0]

    def is_computed(self, k: int) -> bool:
        """Whether input ``k`` holds integers that are computed from sizes."""
        return self.has(k) and self.node.inputs[k] in self.graph.info.origins

    def numbers(self, k: int) -> list[float | None]:
        """The numbers of input ``k``, with None for each that varies; none where even how many is unknown."""
        name, info = self.node.inputs[k], self.graph.info
        known = self.value(k)
        if known is not None:
            return [float(n) for n in known.ravel()]
        if name not in info.values:
            return []
        varies = info.varying[name].ravel()
        return [None if v else float(n) for n, v in zip(info.values[name].ravel(), varies, strict=True)]

    def _source(self, k: int) -> str:
        """The values that the varying input ``k`` is computed from."""
        return "sizes that vary" if self.node.inputs[k] in self.graph.info.origins else "the data"

    # -- saying ----------------------------------------------------------------------------------------------------
    def letter(self, size: int) -> Term:
        """A fresh index set."""
        return algebra.atom(size)

    def put(self, k: int, axis: int, term: Term) -> None:
        """Put ``term`` on axis ``axis`` of input ``k``."""
        self._put(Place(False, k, axis, term), self.shape(k))

    def put_all(self, k: int) -> list[Term]:
        """Put a fresh letter on every axis of input ``k``. Returns the letters."""
        letters = [self.letter(n) for n in self.shape(k)]
        for axis, letter in enumerate(letters):
            self.put(k, axis, letter)
        return letters

    def put_out_all(self, axes: Sequence[Term], k: int = 0) -> None:
        """Put ``axes`` on the axes of output ``k``."""
        for axis, term in enumerate(axes):
            self.put_out(axis, term, k)

    def put_out(self, axis: int, term: Term, k: int = 0) -> None:
        """Put ``term`` on axis ``axis`` of output ``k``."""
        self._put(Place(True, k, axis, term), self.out_shape(k))

    def _put(self, place: Place, shape: Shape) -> None:
        if place.axis >= len(shape) or algebra.size(place.term) != shape[place.axis]:
            raise Refusal(f"axis {place.axis} of shape {list(shape)} is not what the op's definition says")
        self.record.places.append(place)

    def pattern(self, text: str, unmixed: Collection[int] = (), **sizes: int) -> dict[str, Term]:
        """Place letters by a pattern such as ``"N (g i) ..., (g o) i ..., (g o) -> N (g o) ..."``.

        Inputs are separated by commas, outputs follow the arrow; absent inputs are skipped. ``...`` stands for axes
        that the op mixes, which freeze, but for the axes ``unmixed``: what stands there in input 0 passes to output 0.
        ``sizes`` fixes letters that the shapes leave open. Returns the letters.
        """
        inputs, outputs = parse_pattern(text)
        letters = {name: self.letter(n) for name, n in sizes.items()}
        passing = {axis: self.letter(self.shape(0)[axis]) for axis in unmixed}
        operands = [(self.shape(k), pattern, False, k) for k, pattern in enumerate(inputs) if self.has(k)]
        given = [
            (k, pattern) for k, pattern in enumerate(outputs) if k < len(self.node.outputs) and self.node.outputs[k]
        ]
        operands += [(self.out_shape(k), pattern, True, k) for k, pattern in given]
        for shape, pattern, is_output, k in operands:
            for axis, names in pattern.axes(len(shape)):
                if not names and axis in passing and k == 0:
                    self._put(Place(is_output, k, axis, passing[axis]), shape)
                    continue
                if not names:
                    self._put(Place(is_output, k, axis, algebra.atom(shape[axis], self.why("mixes this axis"))), shape)
                    continue
                unknown = [n for n in names if n not in letters]
                known = algebra.size(algebra.product(letters[n] for n in names if n in letters))
                if len(unknown) > 1 or (unknown and shape[axis] % known):
                    raise Refusal(f"axis {axis} of shape {list(shape)} does not divide into {' '.join(names)}")
                for n in unknown:
                    letters[n] = self.letter(shape[axis] // known)
                self._put(Place(is_output, k, axis, algebra.product(letters[n] for n in names)), shape)
        return letters

    def scales(
        self,
        scaling: Scaling,
        weights: Sequence[int] = (),
        offsets: Sequence[int] = (),
        unscaled: Sequence[int] = (),
    ) -> None:
        """State how a channel's scale passes, which inputs multiply the data, and which are added to it. Where one of
        the inputs ``unscaled`` holds the channel, its scale does not pass.

        Integers pass no scale: they wrap around, and their quotients are truncated.
        """
        self.record.scaling = Scaling.NONE if self.gives_integers else scaling
        self.record.weights, self.record.offsets = frozenset(weights), frozenset(offsets)
        self.record.unscaled = frozenset(unscaled)

    def makes(self, factors: Sequence[int] = (), terms: Sequence[int] = ()) -> None:
        """State which constants scale a channel that the op makes, see `Making`. Without this statement none do."""
        if not self.gives_integers:
            self.record.making = Making(frozenset(factors), frozenset(terms))

    def jumps(self) -> None:
        """State that the output is no continuous function of the input: only exactly equal values stay equal."""
        self.record.jumps = True

    @property
    def gives_integers(self) -> bool:
        """Whether the first output holds integers or booleans."""
        return bool(self.node.outputs) and self.node.outputs[0] in self.graph.integers

    def drop(self, term: Term) -> None:
        """State that the letters of ``term`` are omitted on purpose (Slice, Split, Gather), not reduced."""
        self.record.dropped.append(term)

    def sums(self, term: Term) -> None:
        """State that the node sums over the letters of ``term`` without weights, and that zeros add nothing."""
        self.record.summed.append(term)

    def divides(self, groups: Term, inside: Term) -> None:
        """State that the node processes ``groups`` separately, with channels ``inside`` each. Where channels inside can
        be removed, whole groups stay, since nothing replaces a whole group."""
        self.record.divided.append((groups, inside))

    def produces(self, term: Term) -> None:
        """State that the node's constants produce the letters of ``term``, although some data has them too: the initial
        states of a recurrence."""
        self.record.started.append(term)

    def feeds_back(self, term: Term, made: Term) -> None:
        """State that the node itself consumes, as ``term``, what it produces as ``made`` (a recurrence)."""
        self.record.fed_back.append((term, made))

    def slides_over(self, term: Term) -> None:
        """State that each output index of ``term`` reads several of input 0. The node keeps its full width, with zeros
        for removed channels (see `passes.surgery.restore_width`). For small tensors, such as a gate's pooled
        channels."""
        self.record.slid.append(term)

    def normalises(self, term: Term) -> None:
        """State that the node normalises over ``term``, or averages it for a norm. No index can be removed alone.
        Mixtures of them can be, since a norm, before its scale and its bias, goes with rotations
        (`passes.analysis.normalised_channels`)."""
        self.record.normalised.append(term)

    def lists(self, k: int, axis: int) -> None:
        """State that input ``k``, a constant, lists the indices that the first output's ``axis`` takes from that of
        input 0."""
        self.record.listed.append((k, axis))

    def freeze(self, term: Term, detail: str) -> None:
        """Freeze ``term``. ``detail`` completes "<node> (<op>) ..."."""
        algebra.freeze(term, self.why(detail))

    def why(self, detail: str = "", place: str = "") -> Reason:
        """A reason that names the node, or what it ties. ``place``: the tensor in ``detail``."""
        return Reason("operator", self.node.label, detail, self.node.op, place)

    def resize_attr(self, name: str, term: Term) -> None:
        """State that integer attribute ``name`` is the size of ``term``."""
        self.record.resizes.append(Resize(name, (term,), scalar=True))

    def pin_attr(self, name: str, value: float, term: Term) -> None:
        """Fix attribute ``name``, which is absent, at ``value``: its default would follow the size of ``term``."""
        self.record.resizes.append(Resize(name, (term,), pinned=value))

    def resize_attrs(self, name: str, entries: Sequence[Term | int]) -> None:
        """State that integer list attribute ``name`` holds the sizes of ``entries``."""
        self.record.resizes.append(Resize(name, tuple(entries)))

    def resize_input(self, k: int, entries: Sequence[Term | int | None]) -> None:
        """State that input ``k`` holds the sizes of ``entries``, constant or computed. None: not the size of an
        axis."""
        self.record.resizes.append(Resize(k, tuple(entries)))
