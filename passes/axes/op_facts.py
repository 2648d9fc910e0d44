"""Defines the facts of an op besides its axes: values, function, multiply-adds, weights.

The file with an op's rule states its facts (`passes.axes.registry.facts`), and analyses read them there. An absent fact
is not claimed: an analysis then assumes nothing about the op's output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

from passes.axes.loops import LoopNest, Loops
from passes.graph.model import Array, Graph, Node

Function = Callable[[Array], Array]
Range = tuple[float, float]


class Joins(Enum):
    """How an op combines the values of several data operands."""

    SUM = "sum"
    DIFFERENCE = "difference"
    MEAN = "mean"
    PRODUCT = "product"
    QUOTIENT = "quotient"
    EXTREMUM = "extremum"
    """The largest or the smallest."""
    CHOICE = "choice"
    """One of the two, chosen by a condition."""
    CONCATENATION = "concatenation"


class Moves(Enum):
    """How the outputs contain the values of input 0, where they contain no others."""

    SAME = "same"
    RESHAPED = "reshaped"
    """In row-major order, on other axes."""
    PERMUTED = "permuted"
    PICKED = "picked"
    """Some of them, at fixed places."""
    GATHERED = "gathered"
    """Some of them, at computed places, possibly with repeats."""
    REPEATED = "repeated"
    JOINED = "joined"
    """Joined to those of other inputs."""
    PADDED = "padded"
    """Padded at the borders."""
    CONVERTED = "converted"
    """Rounded to another element type."""
    QUANTISED = "quantised"
    """Rounded to a grid, or brought back from it, by a scale and a zero point."""


class PoolWindow(Enum):
    """The values that a pooling op combines."""

    ALL = "all"
    """All places of a channel."""
    AXES = "axes"
    """All along given axes."""
    KERNEL = "kernel"
    """All under a sliding kernel."""


@dataclass(frozen=True)
class Pool:
    """Pooling: ``kind`` is "mean", "max" or "norm"."""

    kind: str
    window: PoolWindow


class Activation(Enum):
    """The role of a function between two layers."""

    SWITCH = "switch"
    """Zero or small for negative values, near the identity for positive ones, and zero for zero."""
    GATE = "gate"
    """Between the two ends of a bounded range."""


@dataclass(frozen=True)
class ScalarFunction:
    """The op as a function of one value: (graph, node) -> function, or None where the form is not supported.
    ``monotone``: the function never decreases."""

    of: Callable[[Graph, Node], Function | None]
    monotone: bool = False


@dataclass(frozen=True)
class ChannelAffine:
    """y = a x + t on each channel; both of shape (C,), float64. With parameters for each place, both have shape (C,
    ...)."""

    a: Array
    t: Array


@dataclass(frozen=True)
class LinearForm:
    """A layer Y = W X + b with the weights W in input 1. ``convolves``: its channels are on axis 1 of data of any rank,
    else on the last axis. ``output_axis``: the axis of W with the outputs of one group. The inputs are on the other of
    the first two."""

    convolves: bool
    output_axis: Callable[[Node], int]


@dataclass(frozen=True)
class NormForm:
    """A norm over the last axis: y = (x - m) / sqrt(v + epsilon), times the scale in input 1, plus the bias in input 2,
    where it has one. ``centred``: m is the mean and v the variance; else m is 0 and v the mean square."""

    centred: bool


@dataclass(frozen=True, kw_only=True)
class OpFacts:
    """Facts about an op. None, False or () means that nothing is claimed."""

    range: Range | Callable[[Graph, Node], Range | None] | None = None
    """Lowest and highest value of the op's output for every input."""
    keeps_sign: bool = False
    """Nonnegative data give nonnegative values."""
    convex_hull: bool | Callable[[Node], bool] = False
    """Each output value of a channel lies between the lowest and the highest of the channel's values in the data and in
    joined constants. It is one of these values, or a mean of some."""
    function: ScalarFunction | None = None
    pointwise: bool = False
    """Each output value depends on one value of each operand, which may be broadcast, and smoothly but at corners."""
    joins: Joins | None = None
    broadcasts: bool = False
    """Operands broadcast from the right."""
    moves: Moves | None = None
    pool: Pool | None = None
    affine: Callable[[Graph, Node], ChannelAffine] | None = None
    """The op as an affine map of each channel."""
    scale_and_bias: tuple[int, int] | None = None
    """Inputs with a scale and a bias for each channel, of values that the op normalises within the channel."""
    norm: NormForm | None = None
    linear: LinearForm | None = None
    linear_in: Collection[int] = ()
    """Inputs of each of which the output is a linear function, whatever the others are. Where a channel of one is zero,
    so is that of the output."""
    zeros_add_nothing: bool = False
    """Whether a zero adds nothing to what the op sums over: products of one factor of each data operand, or functions
    of one that are zero at zero."""
    weights: Collection[int] = ()
    """Inputs with weights, or with the rows of a table, where they are constant."""
    biases: Collection[int] = ()
    states: Collection[int] = ()
    """Inputs with initial states, zero where they are absent."""
    sizing: Collection[int] = ()
    """Inputs whose values determine the size of the output, or the axes of the operation."""
    counts: bool = False
    """The size of the output depends on the values of the data."""
    packed: int | None = None
    """The input of which a byte holds several weights: 8 divided by attribute ``bits``, or by 4 without it."""
    macs: Callable[[Loops], list[LoopNest]] | None = None
    """Loops. The sum of their sizes' products is the multiply-adds. Without any, the op counts as zero."""
    activation: Activation | None = None
    decides: bool = False
    """The op has thresholds, or an end of its domain: a rounding error in its data may change its output by a whole
    step, or make it NaN or infinite."""

    def values(self, graph: Graph, node: Node) -> Range | None:
        """Lowest and highest value of ``node``'s output, where known."""
        return self.range(graph, node) if callable(self.range) else self.range

    def in_convex_hull(self, node: Node) -> bool:
        """Whether ``convex_hull`` holds for ``node``."""
        return self.convex_hull(node) if callable(self.convex_hull) else self.convex_hull


ABSENT = OpFacts()
"""No facts. The facts of an op start from these, or from those of its family."""
