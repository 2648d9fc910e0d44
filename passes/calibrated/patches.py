"""What a layer reads at once, as the columns of a matrix, written into a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.calibrated.build import END, Builder
from passes.calibrated.layers import Layer, geometry
from passes.graph.model import Array


@dataclass(frozen=True)
class Window:
    """What of its input a layer reads at once: ``kept`` (g, K) channels; the taps of a convolution, ``stride`` places
    apart being looked at of all that there are."""

    kept: Array
    stride: int


def _places(build: Builder, source: str, stride: int, lead: Sequence[int]) -> str:
    """(N, C, P...) -> (lead..., M): every ``stride``-th place of every sample."""
    flat = build.op("Reshape", source, build.ints(0, 0, -1))
    if stride > 1:
        flat = build.op("Slice", flat, build.ints(0), build.ints(END), build.ints(2), build.ints(stride))
    return build.op("Reshape", build.op("Transpose", flat, perm=[1, 0, 2]), build.ints(*lead, -1))


def patches(build: Builder, layer: Layer, window: Window, source: str, kernel: Sequence[int]) -> str:
    """Patches (g, D, M) of what the layer reads, ``source``; D runs over (tap, channel)."""
    found = taps(build, layer, window, source, kernel)
    return found[0] if len(found) == 1 else build.op("Concat", *found, axis=1)


def taps(build: Builder, layer: Layer, window: Window, source: str, kernel: Sequence[int]) -> list[str]:
    """What each tap of a convolution sees of ``source``, each (g, K, M); other layers have one tap."""
    groups, kept = window.kept.shape
    channels = build.constant(window.kept.ravel().astype(np.int64))
    if layer.node.op != "Conv":
        flat = build.op("Gather", source, channels, axis=layer.axis)
        rows = build.op("Reshape", flat, build.ints(-1, kept))
        if window.stride > 1:
            rows = build.op("Slice", rows, build.ints(0), build.ints(END), build.ints(0), build.ints(window.stride))
        return [build.op("Reshape", build.op("Transpose", rows, perm=[1, 0]), build.ints(1, kept, -1))]
    rank = len(kernel)
    strides, pads, dilations = geometry(layer.node, rank)
    picked = build.op("Gather", source, channels, axis=1)
    if any(pads):
        picked = build.op("Pad", picked, build.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    axes, steps = build.ints(*range(2, 2 + rank)), build.ints(*strides)
    found: list[str] = []
    for tap in itertools.product(*(range(n) for n in kernel)):
        starts = [i * d for i, d in zip(tap, dilations, strict=True)]
        ends = [-(n - 1 - i) * d or END for n, i, d in zip(kernel, tap, dilations, strict=True)]
        cut = build.op("Slice", picked, build.ints(*starts), build.ints(*ends), axes, steps)
        found.append(_places(build, cut, window.stride, (groups, kept)))
    return found


def columns(build: Builder, layer: Layer, window: Window, source: str, outputs: int) -> str:
    """``source``, of the layer's outputs' shape, as (g, O, M)."""
    groups = len(window.kept)
    if layer.node.op == "Conv":
        return _places(build, source, window.stride, (groups, outputs // groups))
    rows = build.op("Reshape", source, build.ints(-1, outputs))
    if window.stride > 1:
        rows = build.op("Slice", rows, build.ints(0), build.ints(END), build.ints(0), build.ints(window.stride))
    return build.op("Reshape", build.op("Transpose", rows, perm=[1, 0]), build.ints(1, outputs, -1))
