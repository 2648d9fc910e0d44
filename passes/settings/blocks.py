"""Defines the block of channels of which widths are multiples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PADDED = 4
"""Kernels pad multiples of this width to a whole block at no extra cost. Other widths are slow."""


@dataclass(frozen=True)
class Blocks:
    """``size``: widths are multiples of it; ``strict``: also in narrow groups; if not (auto), a narrow
    group has a smaller block of about a quarter of its channels, at least `PADDED`."""

    size: int = 1
    strict: bool = True

    def of(self, size: int) -> int:
        """Block of a group with ``size`` channels."""
        if self.strict:
            return self.size
        quarter = 1 << max(0, (size // 4).bit_length() - 1)
        return min(self.size, max(PADDED, quarter))

    def said_of(self, sizes: Iterable[int]) -> str:
        """What the widths of groups of ``sizes`` channels are multiples of, in words."""
        own = {self.of(size) for size in sizes} or {self.size}
        where = " in wide groups" if len(own) > 1 else ", since no group is wide" if max(own) < self.size else ""
        return f"multiples of {max(own)}{where}"
