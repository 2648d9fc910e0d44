"""Parses the notation of op rules: einops-like patterns such as ``N (g i) ..., (g o) i ..., (g o) -> N (g o) ...``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from passes.interface.errors import Refusal

_AXIS = re.compile(r"\(([\w\s]+)\)|(\.\.\.)|(\w+)")


@dataclass(frozen=True)
class Pattern:
    """The axes of one operand: a tuple of letters each, or None for ``...``."""

    items: tuple[tuple[str, ...] | None, ...]

    def axes(self, rank: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """(axis, its letters) for an operand of ``rank`` axes. Axes under ``...`` have none.

        Raises `Refusal` if the rank does not fit.
        """
        spread = rank - sum(item is not None for item in self.items)
        if spread < 0 or (spread and None not in self.items):
            raise Refusal(f"has an operand with {rank} axes")
        axis = 0
        for item in self.items:
            for _ in range(spread if item is None else 1):
                yield axis, item or ()
                axis += 1


@cache
def parse_pattern(text: str) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    """Patterns of the inputs and of the outputs."""
    inputs, arrow, outputs = text.partition("->")
    if not arrow:
        raise ValueError(f"pattern {text!r} has no '->'")
    return _operands(inputs), _operands(outputs)


def _operands(text: str) -> tuple[Pattern, ...]:
    return tuple(_operand(part) for part in text.split(","))


def _operand(text: str) -> Pattern:
    if _AXIS.sub("", text).strip():
        raise ValueError(f"pattern {text!r} is not made of letters, (composites) and '...'")
    return Pattern(tuple(None if m[2] else tuple((m[1] or m[3]).split()) for m in _AXIS.finditer(text)))
