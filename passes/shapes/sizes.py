"""Sizes that vary: one integer for each assignment of sizes to the model's dynamic dims.

What holds of sizes at one assignment may be chance: 64 rows are as many as 64 channels. A size that differs between
assignments is therefore a `Size`, and two sizes are equal if they are equal at every assignment. Arithmetic is done at
each of them; sums, products and quotients that come out the same everywhere are plain integers again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

Operation = Callable[[int, int], int]


class Size(int):
    """A size that varies; as an integer, what it is at the first assignment. Make it with `size_of`."""

    at: tuple[int, ...]

    def __new__(cls, at: Iterable[int]) -> Size:  # noqa: D102 - see `size_of`
        values = tuple(map(int, at))
        made = super().__new__(cls, values[0])
        made.at = values
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.at,)

    def _with(self, other: int, operation: Operation) -> int:
        others = other.at if isinstance(other, Size) else (int(other),) * len(self.at)
        return size_of(map(operation, self.at, others))

    def __add__(self, other: int) -> int:
        return self._with(other, operator.add)

    def __sub__(self, other: int) -> int:
        return self._with(other, operator.sub)

    def __rsub__(self, other: int) -> int:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: int) -> int:
        return self._with(other, operator.mul)

    def __floordiv__(self, other: int) -> int:
        return self._with(other, lambda a, b: a // b if b else 0)

    def __rfloordiv__(self, other: int) -> int:
        return self._with(other, lambda a, b: b // a if a else 0)

    def __mod__(self, other: int) -> int:
        return self._with(other, lambda a, b: a % b if b else a)

    def __rmod__(self, other: int) -> int:
        return self._with(other, lambda a, b: b % a if a else b)

    __radd__, __rmul__ = __add__, __mul__

    def __bool__(self) -> bool:
        return any(self.at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.at == other.at  # never a fixed one

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.at)

    def __repr__(self) -> str:
        return "|".join(map(str, self.at))


def size_of(at: Iterable[int]) -> int:
    """The size with these values at the assignments: a plain integer if they are all the same."""
    values = tuple(at)
    return int(values[0]) if len(set(values)) == 1 else Size(values)


def at(size: int, k: int) -> int:
    """What a size is at assignment ``k``."""
    return size.at[k] if isinstance(size, Size) else int(size)
