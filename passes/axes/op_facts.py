"""What is known of an op beside its axes: its values, its function, its derivative, its multiply-adds, its weights.

The file with an op's rule states its facts (`passes.axes.registry.facts`); analyses read them there. A fact that is
absent is not claimed: an analysis then knows nothing of what the op makes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from passes.axes.loops import LoopNest, Loops
from passes.graph.model import Array, Graph, Node

Function = Callable[[Array], Array]
Range = tuple[float, float]


class Joins(Enum):
    """What an op with several data operands makes of their values."""

    SUM = "sum"
    DIFFERENCE = "difference"
    MEAN = "mean"
    PRODUCT = "product"
    QUOTIENT = "quotient"
    EXTREMUM = "extremum"
    """The largest or the smallest."""
    CHOICE = "choice"
    """One of the two behind a condition."""
    CONCATENATION = "concatenation"


class Moves(Enum):
    """How the values of input 0 stand in the outputs, where these hold no others."""

    SAME = "same"
    RESHAPED = "reshaped"
    """In row-major order, on other axes."""
    PERMUTED = "permuted"
    PICKED = "picked"
    """A part of them, at fixed places."""
    GATHERED = "gathered"
    """Those at computed places, some perhaps several times."""
    REPEATED = "repeated"
    JOINED = "joined"
    """Beside those of other inputs."""
    PADDED = "padded"
    """With others at the borders."""
    CONVERTED = "converted"
    """Rounded to another element type."""
    QUANTISED = "quantised"
    """Rounded to a grid, or brought back from it, by a scale and a zero point."""


class PoolWindow(Enum):
    """Which values a pooling op takes together."""

    ALL = "all"
    """All places of a channel."""
    AXES = "axes"
    """All along given axes."""
    KERNEL = "kernel"
    """Those under a kernel that slides over the places."""


@dataclass(frozen=True)
class Pool:
    """Pooling: ``kind`` is "mean", "max" or "norm"."""

    kind: str
    window: PoolWindow


class Activation(Enum):
    """The part that a function plays between two layers."""

    SWITCH = "switch"
    """Off for negative values, near the identity for positive ones."""
    GATE = "gate"
    """Between the two ends of a bounded range."""


@dataclass(frozen=True)
class ScalarFunction:
    """The op as a function of one value, (graph, node) -> function, or None in a form that is not known.
    ``monotone``: it never decreases."""

    of: Callable[[Graph, Node], Function | None]
    monotone: bool = False


class NodeBuilder(Protocol):
    """Writes nodes of a model, such as `passes.statistics.graph_builder.Builder`."""

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Name of the first output of a new node."""

    def number(self, value: float) -> str:
        """Name of a float32 constant."""


@dataclass(frozen=True)
class Derivative:
    """The derivative of an op with respect to the one input that is no constant. ``exact`` (build, x) writes it into a
    model; without it a central difference stands for it."""

    exact: Callable[[NodeBuilder, str], str] | None = None


NUMERIC = Derivative()


@dataclass(frozen=True)
class ChannelAffine:
    """y = a x + t on each channel; both of shape (C,), float64. With parameters of their own for each place, both of
    shape (C, ...)."""

    a: Array
    t: Array


@dataclass(frozen=True)
class LinearForm:
    """A layer Y = W X + b with the weights W in input 1. ``convolves``: its channels stand on axis 1 of data of any
    rank, else on the last. ``output_axis``: the axis of W that holds the outputs, of one group; inputs hold the other
    of the first two."""

    convolves: bool
    output_axis: Callable[[Node], int]


@dataclass(frozen=True, kw_only=True)
class OpFacts:
    """Facts about an op; None, False or () where nothing is claimed."""

    range: Range | Callable[[Graph, Node], Range | None] | None = None
    """Lowest and highest value that the op can give, whatever it reads."""
    keeps_sign: bool = False
    """Data that are never negative give values that are never negative."""
    hull: bool | Callable[[Node], bool] = False
    """Each value of a channel lies between the lowest and the highest of the channel's values in the data, and beside
    them in constants: a value of theirs, or a mean of some."""
    function: ScalarFunction | None = None
    derivative: Derivative | None = None
    joins: Joins | None = None
    broadcasts: bool = False
    """Operands broadcast from the right."""
    moves: Moves | None = None
    pool: Pool | None = None
    affine: Callable[[Graph, Node], ChannelAffine] | None = None
    """The op as an affine map of each channel."""
    linear: LinearForm | None = None
    weights: Collection[int] = ()
    """Inputs that hold weights, or the rows of a table, where they are constant."""
    biases: Collection[int] = ()
    states: Collection[int] = ()
    """Inputs that hold first states, zeros where they are absent."""
    sizing: Collection[int] = ()
    """Inputs whose values say how large, or along which axes, the output is to be."""
    counts: bool = False
    """The output is as large as the values of the data make it."""
    packed: int | None = None
    """The input of which a byte holds several weights: 8 over attribute ``bits``, 4 without it."""
    macs: Callable[[Loops], list[LoopNest]] | None = None
    """Loops whose sizes' products add up to the multiply-adds; without any, the op counts as free."""
    activation: Activation | None = None
    decides: bool = False
    """The op has thresholds: a change of its data that rounding makes may change its output by a whole step."""

    def values(self, graph: Graph, node: Node) -> Range | None:
        """Lowest and highest value that ``node`` can give, where that is known."""
        return self.range(graph, node) if callable(self.range) else self.range

    def in_hull(self, node: Node) -> bool:
        """Whether ``hull`` holds for ``node``."""
        return self.hull(node) if callable(self.hull) else self.hull


ABSENT = OpFacts()
"""No fact is claimed. What an op states starts from here, or from what its family has in common."""
