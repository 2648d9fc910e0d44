"""Blocks of channels of which widths are to be multiples."""

from __future__ import annotations

from dataclasses import dataclass

PADDED = 4
"""Channels of which kernels make whole blocks by padding at no cost of their own; other widths are slow."""


@dataclass(frozen=True)
class Blocks:
    """``size``: channels of which widths are multiples; ``strict``: in narrow groups too, of which otherwise smaller
    parts may go, down to a quarter of the group and to `PADDED`."""

    size: int = 1
    strict: bool = True

    def of(self, size: int) -> int:
        """Of a group with so many channels."""
        if self.strict:
            return self.size
        quarter = 1 << max(0, (size // 4).bit_length() - 1)
        return min(self.size, max(PADDED, quarter))
