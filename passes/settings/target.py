"""A limit on what a model costs."""

from __future__ import annotations

from dataclasses import dataclass

NEAR = 0.01
"""Relative deviation within which a target is met."""


@dataclass(frozen=True)
class Target:
    """``kind``: macs or params; ``ratio``: the share of the model's that is to be left, above 0 and at most 1;
    ``near``: relative deviation within which it is met."""

    kind: str
    ratio: float
    near: float = NEAR
