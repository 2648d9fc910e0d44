"""Exceptions that passes raise."""

from __future__ import annotations


class PassError(ValueError):
    """A pass cannot handle the model or the request. The message is one line naming the place and the remedy."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """Raised inside an op rule that does not support an op in this form. Its axes freeze with this reason."""


class RunError(Exception):
    """A model, or a part of one, cannot be run."""
