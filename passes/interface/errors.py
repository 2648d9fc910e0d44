"""Exceptions that passes raise."""

from __future__ import annotations


class PassError(ValueError):
    """A pass cannot handle the model or the request. The message is one line naming the place and the remedy.

    It names a setting by its field in backticks: the application may put its own name for it there.
    """


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """Raised inside an op rule that does not support an op in this form. Its axes freeze with this detail.

    ``place``: the tensor that the detail is about, see `passes.interface.reason.TENSOR`.
    """

    def __init__(self, detail: str, place: str = "") -> None:
        super().__init__(detail)
        self.place = place


class RunError(Exception):
    """A model, or a part of one, cannot be run."""
