"""Sizes that vary: one integer for each assignment of sizes to the model's dynamic dims.

Two sizes may be equal at one assignment by chance, such as 64 rows and 64 channels. A size that differs between
assignments is therefore a `Size`, and two sizes are equal only if they are equal at every assignment. Arithmetic is
done at each assignment. Sums, products and quotients that are the same at all of them become plain integers again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

Operation = Callable[[int, int], int]


class Size(int):
    """A size that varies. As an integer it has its value at the first assignment. Create it with `size_of`."""

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
        return isinstance(other, Size) and self.at == other.at  # a size that varies never equals a fixed one

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.at)

    def __repr__(self) -> str:
        return "|".join(map(str, self.at))


def size_of(at: Iterable[int]) -> int:
    """Return the size with these values at the assignments: a plain integer if all are equal."""
    values = tuple(at)
    return int(values[0]) if len(set(values)) == 1 else Size(values)


def at(size: int, k: int) -> int:
    """Return the value of a size at assignment ``k``."""
    return size.at[k] if isinstance(size, Size) else int(size)
