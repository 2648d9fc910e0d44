"""Writes the adjoints of convolutions: what their gradients with respect to data and to kernels are.

Each has several forms, and takes the one that onnxruntime's CPU provider computes in the least time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from passes.axes.gradient_context import Backward
from passes.axes.window_geometry import WindowGeometry
from passes.numerics.tuning import NUMERICS

END = 2**31 - 1


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
    """The adjoint of a convolution whose windows begin at every place, as a convolution with kernels in reverse, which
    runs faster than ConvTranspose.

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
    if not geometry.single and (inputs == 1 or write.opset < 10):
        return _by_convolution(back, data, outer, geometry, shape)
    taps = math.prod(geometry.kernel)
    places = None if None in geometry.places else math.prod(n or 0 for n in geometry.places)
    small = places is not None and 2 * places * (outputs + inputs * taps) < outputs * inputs * taps
    if small and group == 1:
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


def _by_samples(back: Backward, data: str, outer: str, geometry: WindowGeometry, shape: Sequence[int]) -> str:
    """(g, o, i taps) as the sum of products for each sample."""
    write, (group, outputs, inputs) = back.write, shape
    rows, narrow = write.op("Reshape", outer, write.ints(0, group, outputs, -1)), NUMERICS.gradients.narrow_channels
    if group == 1 and inputs > narrow and not geometry.single:  # with channels last, a tap is a few long pieces
        taps = taps_of(back, write.transpose(data, [0, *range(2, 2 + geometry.rank), 1]), geometry, 1)
        patches = [write.op("Reshape", tap, write.ints(0, 1, -1, inputs)) for tap in taps]
    else:
        taps = [data] if geometry.single else taps_of(back, data, geometry)
        columns = [write.op("Reshape", tap, write.ints(0, group, inputs, -1)) for tap in taps]
        if inputs <= narrow and len(taps) > 1:
            columns = [write.op("Concat", *columns, axis=2)]
        patches = [write.swapped(column, 4) for column in columns]
    found = [write.sum(write.op("MatMul", rows, patch), [0]) for patch in patches]
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


def taps_of(back: Backward, data: str, geometry: WindowGeometry, first: int = 2) -> list[str]:
    """What each tap reads of ``data`` (N, C, sizes...), each (N, C, places...). ``first``: the first axis of the
    places, 1 where the channels come last."""
    write, rank = back.write, geometry.rank
    before, after = [0] * first, [0] * (2 - first)
    padded = write.pad(data, [*before, *geometry.begins, *after], [*before, *geometry.ends, *after])
    axes = write.ints(*range(first, first + rank))
    found: list[str] = []
    for tap in itertools.product(*(range(k) for k in geometry.kernel)):
        starts = [t * d for t, d in zip(tap, geometry.dilations, strict=True)]
        stops = [s - r or END for s, r in zip(starts, geometry.reach, strict=True)]
        bounds = (write.ints(*starts), write.ints(*stops), axes, write.ints(*geometry.strides))
        found.append(write.op("Slice", padded, *bounds))
    return found
