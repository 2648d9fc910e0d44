"""The range that an option's number must be in, and the message for one that is not."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_merge.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """From ``low`` to ``high``, or at least ``low``; ``above``: without ``low`` itself.

    wording: what a message says that it must be, if not that.
    hint: ends the message.
    """

    low: float
    high: float | None = None
    above: bool = False
    wording: str = ""
    hint: str = ""

    def check(self, name: str, value: float) -> None:
        """Refuse a number out of range.

        Raises
        ------
        UsageError: that, under the option's ``name``.
        """
        # In this form, nan is refused too.
        if (self.low < value if self.above else self.low <= value) and (self.high is None or value <= self.high):
            return
        shown = value if isinstance(value, int) else f"{value:g}"
        raise UsageError(f"{name} must be {self.wording or self._range}, not {shown}{self.hint}")

    @property
    def _range(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return f"above {self.low} and at most {self.high}" if self.above else f"from {self.low} to {self.high}"
