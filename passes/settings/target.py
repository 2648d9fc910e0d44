"""Defines the target for the cost of a model."""

from __future__ import annotations

from dataclasses import dataclass

from passes.settings.tuning import TUNING


@dataclass(frozen=True)
class Target:
    """``kind``: macs or params; ``ratio``: share of the model's cost to keep, above 0 and at most 1; ``near``: relative
    deviation within which the target is met."""

    kind: str
    ratio: float
    near: float = TUNING.allocation.target_deviation
