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
from netgrow_table import GROWERS, ROUGH, USABLE_FROM, fits, schema
from netkit import ints

WIDE = {}
"""Name -> (function that grows an idiom, first opset that has all it takes, whether it takes float32 only)."""


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
            elif name in BLOCKS:
                BLOCKS[name](self)
            else:
                GROWERS[name](self, name)
        except Exception:  # of whatever kind: no tensor fits, or the op has no such form in this opset
            del self.lines[marks[0] :], self.tensors[marks[1] :], self.filters[marks[3] :]
            self.weights = marks[2]
            return False
        return True


def can(name, opset, precision):
    """Whether a network of this opset and precision can have the step. Ops that jump are let into float32 too: the
    judge of this folder asks how far a rounding can carry."""
    if name in WIDE:
        return opset >= WIDE[name][1] and (precision == "float" or not WIDE[name][2])
    if precision == "float" and name in ROUGH:
        return schema(name, opset) is not None and opset >= USABLE_FROM.get(name, 0)
    return name in BLOCKS or fits(name, opset, precision)
