"""What a pass says when it cannot go on."""

from __future__ import annotations


class PassError(ValueError):
    """A pass met a model or a request it cannot handle; the message is one line naming the place and the remedy."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """Raised inside an op rule: the op, as it stands here, is not understood, and its axes freeze with this detail.

    ``place``: the tensor that the detail is about, see `passes.interface.reason.TENSOR`.
    """

    def __init__(self, detail: str, place: str = "") -> None:
        super().__init__(detail)
        self.place = place


class RunError(Exception):
    """A model, or a piece of one, cannot be run."""
