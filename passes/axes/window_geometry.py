"""Computes where the windows of convolutions and pooling ops lie, and writes the adjoints of what they compute."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.gradient_context import Backward
from passes.graph.model import Array
from passes.interface.errors import Refusal

END = 2**31 - 1
SHORT_LINES = 32
"""Widths up to which the weights of a depthwise layer have their gradient from products of lines (measured with
onnxruntime's CPU provider on layers of 7 x 7 to 112 x 112 places)."""
FEW_CHANNELS = 8
"""Layers with at most so many input channels have the patches of all taps multiplied at once."""


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


def spread(back: Backward, source: str, like: str, kernels: str, geometry: WindowGeometry, group: int) -> str:
    """The adjoint of a convolution in its data: ``source``, of the shape of its output, to the shape of ``like``.

    ``kernels``: (g o, i, taps...).
    """
    write, rank = back.write, geometry.rank
    given = {"dilations": list(geometry.dilations), "strides": list(geometry.strides), "group": group}
    lost = [0] * rank
    ends = list(geometry.ends)
    vague = False
    for axis, (n, m) in enumerate(zip(geometry.sizes, geometry.places, strict=True)):
        if n is not None and m is not None:
            covered = (m - 1) * geometry.strides[axis] + geometry.reach[axis] + 1 - geometry.begins[axis]
            ends[axis], lost[axis] = max(covered - n, 0), max(n - covered, 0)
        elif geometry.strides[axis] > 1:
            lost[axis], vague = geometry.strides[axis] - 1, True
    found = write.op("ConvTranspose", source, kernels, pads=[*geometry.begins, *ends], output_padding=lost, **given)
    if not vague:
        return found
    axes = range(2, 2 + rank)
    write.require("Slice with computed bounds", 10)
    return write.op("Slice", found, write.ints(*[0] * rank), write.sizes(like, axes), write.ints(*axes))


def spread_densely(back: Backward, source: str, kernels: str, geometry: WindowGeometry, shape: Sequence[int]) -> str:
    """The same where windows begin at every place, as a convolution with kernels in reverse, which runs faster.

    ``shape``: (g, o, i), the groups and the channels of one; ``kernels``: (g o, i, taps...).
    """
    write, rank, (group, outputs, inputs) = back.write, geometry.rank, shape
    if outputs > 1 or inputs > 1:  # (g o, i, ...) -> (g i, o, ...)
        if group > 1:
            kernels = write.op("Reshape", kernels, write.ints(group, outputs, inputs, *geometry.kernel))
            kernels = write.transpose(kernels, [0, 2, 1, *range(3, 3 + rank)])
            kernels = write.op("Reshape", kernels, write.ints(group * inputs, outputs, *geometry.kernel))
        else:
            kernels = write.transpose(kernels, [1, 0, *range(2, 2 + rank)])
    for axis, n in enumerate(geometry.kernel):
        kernels = write.reversed(kernels, 2 + axis, n)
    before = [r - b for r, b in zip(geometry.reach, geometry.begins, strict=True)]
    after = [r - e for r, e in zip(geometry.reach, geometry.ends, strict=True)]
    if min(*before, *after) < 0:  # a Conv cannot crop
        source = write.pad(source, [0, 0, *(min(p, 0) for p in before)], [0, 0, *(min(p, 0) for p in after)])
    pads = [max(p, 0) for p in (*before, *after)]
    return write.op("Conv", source, kernels, group=group, pads=pads, dilations=list(geometry.dilations))


def correlated(back: Backward, data: str, outer: str, geometry: WindowGeometry, shape: Sequence[int]) -> str:
    """The gradient of a convolution with respect to its kernels, (g o, i, taps...): the sum over places of ``outer``,
    (N, g o, places...), times the patches of ``data``, (N, g i, sizes...). ``shape``: (g, o, i)."""
    write, (group, outputs, inputs) = back.write, shape
    width = geometry.sizes[-1]
    if outputs == inputs == 1 and geometry.rank == 2 and geometry.dense and width is not None and width <= SHORT_LINES:
        return _by_lines(back, data, outer, geometry)
    if not geometry.single and (inputs == 1 or write.opset < 10):
        return _by_convolution(back, data, outer, geometry, shape)
    taps = math.prod(geometry.kernel)
    places = None if None in geometry.places else math.prod(n or 0 for n in geometry.places)
    few = places is not None and 2 * places * (outputs + inputs * taps) < outputs * inputs * taps
    if few and group == 1:
        found = _by_rows(back, data, outer, geometry)
    else:
        found = _by_samples(back, data, outer, geometry, shape)
    return write.op("Reshape", found, write.ints(group * outputs, inputs, *geometry.kernel))


def _by_rows(back: Backward, data: str, outer: str, geometry: WindowGeometry) -> str:
    """(o, i taps), as one product over all samples and places: best where these are few beside the kernels."""
    write, swap = back.write, [1, 0, *range(2, 2 + geometry.rank)]
    sides = [write.op("Reshape", write.transpose(outer, swap), write.ints(0, -1))]
    columns = write.transpose(data, swap)
    if not geometry.single:
        columns = write.op("Concat", *(write.unsqueeze(t, [1]) for t in taps_of(back, columns, geometry)), axis=1)
    width = write.op("Concat", write.ints(-1), write.sizes(sides[0], [1]), axis=0)
    sides.append(write.op("Reshape", columns, width))
    return write.op("MatMul", sides[0], write.swapped(sides[1], 2))


def _by_lines(back: Backward, data: str, outer: str, geometry: WindowGeometry) -> str:
    """(c, 1, taps...) of a depthwise convolution in two dimensions: for each row of taps, products of all pairs of
    places of two lines, of which those are summed that a tap joins. Matrix products do more than they need, but fast.
    """
    write, width, (rows, columns) = back.write, geometry.sizes[1] or 0, geometry.kernel
    count, dilation = width + geometry.begins[1] + geometry.ends[1] - geometry.reach[1], geometry.dilations[1]
    at = np.arange(count)[:, None] + np.arange(columns) * dilation - geometry.begins[1]
    joined = np.arange(width)[:, None, None] == at  # (read, written, tap)
    swapped = [write.transpose(name, [1, 0, 2, 3]) for name in (data, outer)]
    padded = write.pad(swapped[0], [0, 0, geometry.begins[0], 0], [0, 0, geometry.ends[0], 0])
    lines = write.op("Reshape", swapped[1], write.ints(0, -1, count))
    found: list[str] = []
    for row in range(rows):
        start, stop = row * geometry.dilations[0], row * geometry.dilations[0] - geometry.reach[0]
        part = write.slice(padded, [2], [start], [stop or END])
        part = write.op("Reshape", part, write.ints(0, -1, width))
        pairs = write.op("MatMul", write.swapped(part, 3), lines)  # (c, width, count)
        flat = write.op("Reshape", pairs, write.ints(0, width * count))
        found.append(write.op("MatMul", flat, back.number(joined.reshape(-1, columns))))
    total = found[0] if rows == 1 else write.op("Concat", *found, axis=1)
    return write.op("Reshape", total, write.ints(0, 1, rows, columns))


def _by_samples(back: Backward, data: str, outer: str, geometry: WindowGeometry, shape: Sequence[int]) -> str:
    """(g, o, i taps) as the sum of products for each sample."""
    write, (group, outputs, inputs) = back.write, shape
    rows = write.op("Reshape", outer, write.ints(0, group, outputs, -1))
    taps = [data] if geometry.single else taps_of(back, data, geometry)
    columns = [write.op("Reshape", tap, write.ints(0, group, inputs, -1)) for tap in taps]
    if inputs <= FEW_CHANNELS and len(taps) > 1:
        columns = [write.op("Concat", *columns, axis=2)]
    found = [write.sum(write.op("MatMul", rows, write.swapped(column, 4)), [0]) for column in columns]
    joined = found[0] if len(found) == 1 else write.op("Concat", *found, axis=2)  # (g, o, taps i)
    if len(taps) == 1:
        return joined
    return write.transpose(write.op("Reshape", joined, write.ints(group * outputs, len(taps), inputs)), [0, 2, 1])


def _by_convolution(back: Backward, data: str, outer: str, geometry: WindowGeometry, shape: Sequence[int]) -> str:
    """The gradient as one convolution over samples: their axis takes the place of the input channels, the channels of
    one group that of samples, and strides and dilations change places."""
    write, (group, _, inputs), rank = back.write, shape, geometry.rank
    space = range(3, 3 + rank)
    target = write.op("Concat", write.ints(inputs, -1), write.sizes(data, range(2, 2 + rank)), axis=0)
    if inputs == 1:
        swapped = write.transpose(data, [1, 0, *range(2, 2 + rank)])
        images = write.op("Reshape", swapped, target)
    else:
        split = write.op("Reshape", data, _split(back, data, group, inputs, rank))
        images = write.op("Reshape", write.transpose(split, [2, 1, 0, *space]), target)
    kernels = write.transpose(outer, [1, 0, *range(2, 2 + rank)])
    pads = [*geometry.begins, *geometry.ends]
    found = write.op(
        "Conv", images, kernels, group=group, pads=pads, strides=list(geometry.dilations),
        dilations=list(geometry.strides),
    )  # fmt: skip
    found = write.slice(found, range(2, 2 + rank), [0] * rank, geometry.kernel)  # inputs that no window reads
    return write.transpose(found, [1, 0, *range(2, 2 + rank)])


def _split(back: Backward, data: str, group: int, channels: int, rank: int) -> str:
    """The shape (N, g, i, sizes...)."""
    write = back.write
    return write.op("Concat", write.ints(0, group, channels), write.sizes(data, range(2, 2 + rank)), axis=0)


def taps_of(back: Backward, data: str, geometry: WindowGeometry) -> list[str]:
    """What each tap reads of ``data`` (N, C, sizes...), each (N, C, places...)."""
    write, rank = back.write, geometry.rank
    padded = write.pad(data, [0, 0, *geometry.begins], [0, 0, *geometry.ends])
    axes = write.ints(*range(2, 2 + rank))
    found: list[str] = []
    for tap in itertools.product(*(range(k) for k in geometry.kernel)):
        starts = [t * d for t, d in zip(tap, geometry.dilations, strict=True)]
        stops = [s - r or END for s, r in zip(starts, geometry.reach, strict=True)]
        bounds = (write.ints(*starts), write.ints(*stops), axes, write.ints(*geometry.strides))
        found.append(write.op("Slice", padded, *bounds))
    return found


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
