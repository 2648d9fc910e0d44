"""What a pass says when it cannot go on."""

from __future__ import annotations


class PassError(ValueError):
    """A pass met a model or a request it cannot handle; the message is one line naming the place and the remedy."""


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """Raised inside an op rule: the op, as it stands here, is not understood, and its axes freeze with this reason."""


class RunError(Exception):
    """A model, or a piece of one, cannot be run."""
