"""Range of an option's number, and the error message for a number outside."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_merge.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Range of a number: from ``low`` to ``high``, or at least ``low``. ``above``: ``low`` itself is excluded.

    wording: what the message says the number must be, if not the range.
    hint: end of the message.
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
        UsageError: the number is out of range; the message names the option ``name``.
        """
        # Written this way, the condition refuses nan too.
        if (self.low < value if self.above else self.low <= value) and (self.high is None or value <= self.high):
            return
        shown = value if isinstance(value, int) else f"{value:g}"
        raise UsageError(f"{name} must be {self.wording or self._range}, not {shown}{self.hint}")

    @property
    def _range(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return f"above {self.low} and at most {self.high}" if self.above else f"from {self.low} to {self.high}"
