"""The exception of graphs that cannot be differentiated."""

from __future__ import annotations

from passes.interface.reason import Reason


class NoGradientError(Exception):
    """A gradient that is asked for does not exist, or no rule gives it; ``reason`` names the node or tensor."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason
