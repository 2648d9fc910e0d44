"""Growth of a network by numbers of a seeded generator, and the table of what the growers of this folder add.

The growers of `netgrow_table` know `Growth` only; here its choices come from `random.Random`, so that one integer
stands for one graph, without hypothesis.
"""

import random
from dataclasses import dataclass, field

import netgrow_layout  # noqa: F401  (each module adds its growers to the table)
import netgrow_linear  # noqa: F401
import netgrow_norm  # noqa: F401
import netgrow_parts  # noqa: F401
import netgrow_pool  # noqa: F401
import netgrow_sampling  # noqa: F401
import netgrow_sequence  # noqa: F401
from netgrow_blocks import BLOCKS
from netgrow_core import Growth, Line
from netgrow_kinds import convolution, linear
from netgrow_table import GROWERS, ROUGH, USABLE_FROM, fits, schema
from netkit import ints

OWN = {}
"""Op -> function that grows it where channels can go, in the place of the one in `netgrow_table`."""
WIDE = {}
"""Name -> (function that grows an idiom, first opset that has all it takes, whether it takes float32 only)."""


def own(op):
    """Register the decorated function, which takes the growth, for ``op``."""

    def register(function):
        OWN[op] = function
        return function

    return register


def wide(first=7, single=False):
    """Register the decorated function, which takes the growth."""

    def register(function):
        WIDE[function.__name__] = function, first, single
        return function

    return register


@dataclass(frozen=True)
class BodyLine(Line):
    """A node with graphs in its attributes. ``captured``: what these read of the outer graph."""

    captured: tuple[str, ...] = field(default=())


class SeededGrowth(Growth):
    """A `Growth` that draws from ``rng``."""

    def __init__(self, rng: random.Random, opset, precision, batch, loose):
        super().__init__(None, opset, precision, batch, loose)
        self.rng = rng
        self.last_only = False

    def tensor(self, fits=lambda t: True):
        """As that of `Growth`; while ``last_only``, the latest tensor or nothing."""
        if self.last_only:
            return self.tensors[-1] if fits(self.tensors[-1]) else None
        return super().tensor(fits)

    def pick(self, options):
        return self.rng.choice(list(options))

    def some(self, low, high):
        return self.rng.randint(low, high)

    def chance(self, n):
        return self.rng.randrange(n) == 0

    def ints(self, *values):
        """As that of `Growth`; before opset 9 Constant takes floating-point numbers only."""
        return super().ints(*values) if self.opset >= 9 else self.array(ints(*values))

    def body(self, op, attributes, inputs, outputs, captured=()):
        """A node with graphs in it; names of its outputs."""
        names = tuple(f"t{len(self.lines)}{'abcdef'[k]}" for k in range(outputs))
        self.lines.append(BodyLine(names, op, attributes, tuple(map(str, inputs)), tuple(map(str, captured))))
        return names

    def step(self, name):
        """Grow what ``name`` says; where that cannot be done here, nothing."""
        marks = len(self.lines), len(self.tensors), dict(self.weights), len(self.filters)
        try:
            if name in WIDE:
                WIDE[name][0](self)
            elif name in OWN:
                OWN[name](self)
            elif name in BLOCKS:
                BLOCKS[name](self)
            else:
                GROWERS[name](self, name)
        except Exception:  # of whatever kind: no tensor fits, or the op has no such form in this opset
            del self.lines[marks[0] :], self.tensors[marks[1] :], self.filters[marks[3] :]
            self.weights = marks[2]
            return False
        return True


def chain(g, ops):
    """Layers with ``ops`` between them, two at a time; the ops that were grown."""
    x = g.tensor()
    _layer(g, x)
    g.last_only, grown = True, []
    for k, op in enumerate(ops):
        if k and k % 2 == 0:
            _layer(g, g.tensors[-1])
        grown += [op] if g.step(op) else []
    _layer(g, g.tensors[-1])
    g.last_only = False
    return grown


def _layer(g, x):
    o = g.pick([4, 6, 8])
    if x.last or not x.places:
        g.keep(linear(g, x, o), [*x.places, o], last=True)
    else:
        g.like(convolution(g, x, o, kernel=g.pick([1, 1, 3])), x, o)


def can(name, opset, precision):
    """Whether a network of this opset and precision can have the step. Ops that jump are let into float32 too: the
    judge of this folder asks how far a rounding can carry."""
    if name in WIDE:
        return opset >= WIDE[name][1] and (precision == "float" or not WIDE[name][2])
    if precision == "float" and name in ROUGH:
        return schema(name, opset) is not None and opset >= USABLE_FROM.get(name, 0)
    return name in BLOCKS or fits(name, opset, precision)
