"""Writes im2col into a model: the input patches of a layer as columns of a matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.statistics.graph_builder import END, Builder
from passes.statistics.linear_layers import LinearLayer, geometry, output_padding


@dataclass(frozen=True)
class Window:
    """How patches are taken: ``channels`` K in each of the layer's ``groups``; ``steps``: between the places that are
    used along each spatial axis, none for all; of these, every ``stride``-th is used."""

    groups: int
    channels: int
    stride: int
    steps: tuple[int, ...] = ()


def thinned(groups: int, channels: int, stride: int, spatial: Sequence[int]) -> Window:
    """A window that uses about one place in ``stride``: along all spatial axes alike, as far as these are long enough.
    What is not used is then not copied. ``spatial``: sizes of the layer's output.

    Steps are odd, so that they visit every column of what is repeated in twos.
    """
    steps: list[int] = []
    left = float(stride)
    for axis, size in enumerate(spatial):
        step = min(math.floor(left ** (1 / (len(spatial) - axis)) + 1e-9), max(1, size // 2))
        step -= step % 2 == 0
        steps.append(max(1, step))
        left /= size / -(-size // steps[-1]) if size else 1
    rest = max(1, int(left + 1e-9))
    rest -= rest % 2 == 0
    rest += 2 * (left > 1.5 * rest)  # rather too many places, but not twice as many
    return Window(groups, channels, rest, tuple(steps) if max(steps, default=1) > 1 else ())


def _places(build: Builder, source: str, window: Window, width: int) -> str:
    """(g C, N, P...) -> (g, C, M): every ``stride``-th place."""
    flat = build.op("Reshape", source, build.ints(window.groups, width, -1))
    if window.stride == 1:
        return flat
    return build.op("Slice", flat, build.ints(0), build.ints(END), build.ints(2), build.ints(window.stride))


def _rows(build: Builder, window: Window, source: str, width: int) -> str:
    """(N, ..., C) -> (1, C, M): the same for tensors with channels last."""
    rows = build.op("Reshape", source, build.ints(-1, width))
    if window.stride > 1:
        rows = build.op("Slice", rows, build.ints(0), build.ints(END), build.ints(0), build.ints(window.stride))
    return build.op("Reshape", build.op("Transpose", rows, perm=[1, 0]), build.ints(1, width, -1))


def patches(build: Builder, layer: LinearLayer, window: Window, source: str, kernel: Sequence[int]) -> str:
    """Patches (g, D, M) of the layer's input ``source``. D runs over (tap, channel)."""
    found = taps(build, layer, window, source, kernel)
    return found[0] if len(found) == 1 else build.op("Concat", *found, axis=1)


def taps(build: Builder, layer: LinearLayer, window: Window, source: str, kernel: Sequence[int]) -> list[str]:
    """The part of ``source`` that each tap of a convolution reads, each (g, K, M). Other layers have one tap."""
    if not layer.convolves:
        return [_rows(build, window, source, window.channels)]
    rank = len(kernel)
    strides, pads, dilations = geometry(layer.node, rank)
    if layer.transposed:
        source = _spread(build, layer, source, window.channels, kernel)
        pads, strides = _around(layer, kernel), [1] * rank
    source = build.op("Transpose", source, perm=[1, 0, *range(2, 2 + rank)])  # a channel's places become one row
    if any(pads):
        source = build.op("Pad", source, build.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    wide = [s * n for s, n in zip(strides, window.steps or [1] * rank, strict=True)]
    axes, steps = build.ints(*range(2, 2 + rank)), build.ints(*wide)
    found: list[str] = []
    for tap in itertools.product(*(range(n) for n in kernel)):
        at = [n - 1 - i for n, i in zip(kernel, tap, strict=True)] if layer.transposed else tap
        starts = [i * d for i, d in zip(at, dilations, strict=True)]
        ends = [-(n - 1 - i) * d or END for n, i, d in zip(kernel, at, dilations, strict=True)]
        cut = build.op("Slice", source, build.ints(*starts), build.ints(*ends), axes, steps)
        found.append(_places(build, cut, window, window.channels))
    return found


def _spread(build: Builder, layer: LinearLayer, source: str, channels: int, kernel: Sequence[int]) -> str:
    """Insert zeros between places, as the strides of a transposed convolution require.

    The layer is then an ordinary convolution of stride 1 with its kernel reversed.
    """
    strides, _, _ = geometry(layer.node, len(kernel))
    if all(s == 1 for s in strides):
        return source
    ones = build.constant(np.ones((channels, 1, *(1 for _ in kernel)), np.float32))
    return build.op("ConvTranspose", source, ones, group=channels, strides=strides)


def _around(layer: LinearLayer, kernel: Sequence[int]) -> list[int]:
    """Pads of that convolution. Negative values crop."""
    rank = len(kernel)
    _, pads, dilations = geometry(layer.node, rank)
    reach = [d * (n - 1) for n, d in zip(kernel, dilations, strict=True)]
    before = [r - p for r, p in zip(reach, pads[:rank], strict=True)]
    extra = output_padding(layer.node, rank)
    return before + [r - p + e for r, p, e in zip(reach, pads[rank:], extra, strict=True)]


def columns(build: Builder, layer: LinearLayer, window: Window, source: str, outputs: int) -> str:
    """``source``, which has the shape of the layer's output, as (g, O, M)."""
    if layer.convolves:
        if window.steps:
            axes = range(2, 2 + len(window.steps))
            ends = build.ints(*[0] * len(axes)), build.ints(*[END] * len(axes))
            source = build.op("Slice", source, *ends, build.ints(*axes), build.ints(*window.steps))
        lines = build.op("Transpose", build.op("Reshape", source, build.ints(0, 0, -1)), perm=[1, 0, 2])
        return _places(build, lines, window, outputs // window.groups)
    return _rows(build, window, source, outputs)
