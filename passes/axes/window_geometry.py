"""Computes where the windows of convolutions and pooling ops lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.gradient_context import Backward
from passes.graph.model import Array
from passes.interface.errors import Refusal


@dataclass(frozen=True)
class WindowGeometry:
    """Windows along each spatial axis: output place p reads the inputs p s + t d - b for the taps t.

    ``kernel``: taps; ``strides`` s; ``dilations`` d; ``begins`` b: zeros before; ``ends``: zeros after; ``sizes``: of
    the input; ``places``: of the output, both None where they may vary.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int | None, ...]
    places: tuple[int | None, ...]

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> list[int]:
        """Distance from the first tap to the last."""
        return [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]

    @property
    def dense(self) -> bool:
        """Whether windows begin at every place."""
        return all(s == 1 for s in self.strides)

    @property
    def single(self) -> bool:
        """Whether each window holds one value, and each value is in one window."""
        return self.dense and all(k == 1 for k in self.kernel) and not any((*self.begins, *self.ends))


def windows(
    back: Backward, kernel: Sequence[int], sizes: Sequence[int | None], places: Sequence[int | None]
) -> WindowGeometry:
    """The windows of a Conv or pooling op that reads ``sizes`` and gives ``places``.

    Raises
    ------
    Refusal: padding depends on sizes that vary.
    """
    rank = len(kernel)
    strides = [int(s) for s in back.attr("strides") or [1] * rank]
    dilations = [int(d) for d in back.attr("dilations") or [1] * rank]
    auto = back.attr("auto_pad", "NOTSET")
    pads = [int(p) for p in back.attr("pads") or [0] * 2 * rank]
    begins, ends = pads[:rank], pads[rank:]
    if auto == "VALID":
        begins, ends = [0] * rank, [0] * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        for axis, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
            if n is None and s > 1:
                raise Refusal("has no gradient where its padding depends on a size that varies")
            lost = 0 if n is None else (-(-n // s) - 1) * s + 1 - n
            total = max(lost + d * (k - 1), 0)
            begins[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            ends[axis] = total - begins[axis]
    if back.attr("ceil_mode", 0):
        known = [(n, m) for n, m in zip(sizes, places, strict=True) if n is not None and m is not None]
        if len(known) < rank:
            raise Refusal("has no gradient where its last window depends on a size that varies")
        ends = [
            (m - 1) * s + d * (k - 1) + 1 - n - b
            for (n, m), k, s, d, b in zip(known, kernel, strides, dilations, begins, strict=True)
        ]
    return WindowGeometry(
        tuple(kernel), tuple(strides), tuple(dilations), tuple(begins), tuple(ends), tuple(sizes), tuple(places)
    )


def counts(geometry: WindowGeometry, padded: bool, ends: Sequence[int]) -> Array:
    """How many values each window holds, (places...), float64; ``padded``: padded zeros, of which ``ends`` stand after
    the input, count too.

    Raises
    ------
    Refusal: sizes vary.
    """
    total: Array = np.ones((), np.float64)
    for axis, (n, m) in enumerate(zip(geometry.sizes, geometry.places, strict=True)):
        if n is None or m is None:
            raise Refusal("has no gradient where the number of values in a window depends on a size that varies")
        first = np.arange(m)[:, None] * geometry.strides[axis] - geometry.begins[axis]
        at = first + np.arange(geometry.kernel[axis]) * geometry.dilations[axis]
        low, high = (-geometry.begins[axis], n + ends[axis]) if padded else (0, n)
        total = np.multiply.outer(total, ((at >= low) & (at < high)).sum(1))
    return total
