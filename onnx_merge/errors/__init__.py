"""What can go wrong: exceptions with one line that says what, where and how to mend it, and their exit codes."""

from __future__ import annotations

from typing import ClassVar

from onnx_merge.errors.option_names import with_option_names

MESSAGE_LENGTH = 600
"""Most characters of a message."""
QUOTED_LENGTH = 280
"""Most characters of what a library says, in a message that says more."""


class OnnxMergeError(Exception):
    """Something failed (exit code 1). The message is always a single line, fit to be shown to a user as it is.

    Parameters
    ----------
    message: what happened, where, and the remedy. Line breaks and runs of spaces are folded into single spaces, and
        very long texts (C++ libraries quote whole models) lose their middle. Settings that a message of `passes` names
        become options (see `onnx_merge.errors.option_names`).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(with_option_names(message)))

    @property
    def message(self) -> str:
        """The line that a user is shown."""
        return str(self)


class UsageError(OnnxMergeError):
    """The command line or the arguments make no sense (exit code 2)."""

    exit_code = 2


class InputError(OnnxMergeError):
    """A file the user gave cannot be read, or is not what it should be (exit code 2)."""

    exit_code = 2


class UserCodeError(InputError):
    """A function of the user failed, or returned what it must not (exit code 2). Its cause has the traceback."""


class FidelityError(OnnxMergeError):
    """The result is sound, but its verdict is bad, or it misses a limit that the user set (exit code 3)."""

    exit_code = 3


class NotCompressibleError(OnnxMergeError):
    """Nothing could be compressed, or the target cannot be met (exit code 4)."""

    exit_code = 4


class StructureError(OnnxMergeError):
    """The result is not a sound model with the original's interface; nothing is written (exit code 5)."""

    exit_code = 5


class UnverifiedError(StructureError):
    """The outputs of the result could not be compared with the original's (exit code 5); nothing is written."""


INTERNAL = "internal error"
"""How a line about a fault of ours begins."""


def internal_error(error: Exception) -> str:
    """A line about a fault of ours, with the pass that it left, if it left one (see `passes.interface.runner`)."""
    where = getattr(error, "__notes__", [])
    return one_line("; ".join([f"{INTERNAL}: {type(error).__name__}: {error}", *where]))


def one_line(text: str, limit: int = MESSAGE_LENGTH) -> str:
    """`text` with all white space folded into single spaces, cut in the middle to `limit` characters, between words
    where they are not longer than a tenth of that."""
    folded = " ".join(text.split())
    if len(folded) <= limit:
        return folded
    tail = limit // 2  # remedies stand at the end
    head, end = folded[: limit - tail - 5], folded[-tail:]
    left, right = head.rfind(" "), end.find(" ")
    head = head[:left] if left >= len(head) - limit // 10 else head
    return f"{head} ... {end[right + 1 :] if 0 <= right <= limit // 10 else end}"
