"""Tunables of shapes, constants and axes. They bound the time and memory of an analysis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShapeTuning:
    """How far shapes and values are evaluated (`passes.shapes`, `passes.graph`, `passes.axes.algebra`)."""

    evaluated_elements: int = 4096
    """Largest number of elements of a computed tensor that is evaluated: what is known of a graph against time. Shapes,
    indices and masks have fewer. Not tuned: 32 kB of int64."""
    default_sizes: tuple[tuple[int, int], ...] = ((2, 64), (3, 128))
    """Default sizes of a dynamic first axis and of any other dynamic axis, for two assignments. They are used if no
    assignments are given at which the model is known to run. Not tuned: small, unequal, and large enough for most
    kernels."""
    rounds: int = 8
    """Largest number of rounds of inference. Each round uses the values that the previous one made known. Not tuned: a
    round is needed for each Reshape whose target comes from another's shape."""
    fed_elements: int = 1024
    """Number of elements from which a constant is fed as an input, which avoids copying it into the model. Not tuned: 4
    kB of float32."""
    op_failures: int = 3
    """Number of nodes of one op that may fail on their own before the op is no longer tried: time against folds. Not
    tuned: an op without a kernel fails always, a node with odd attributes alone."""
    expanded_copies: int = 256
    """Largest product that is expanded into a sum of copies of its inner factor: groups found against time. Not tuned:
    larger products are rarely those of heads or groups."""


SHAPES = ShapeTuning()
