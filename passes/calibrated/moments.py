"""Second moments of what a layer reads and of what it is to give, computed by the runtime itself.

Model that is built:  x -> the layer's patches P (g, D, M) -> P P^T, y P^T, P 1      (M places of a batch of samples)

A convolution's patches are slices of its padded input, one for each tap, so that D runs over (tap, channel).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from passes.calibrated.flow import Engine
from passes.calibrated.layers import Layer
from passes.graph.model import Array
from passes.numerics.ridge import Moments, Rows

OPSET = 17
END = 2**31 - 1


@dataclass(frozen=True)
class Window:
    """What of its input a layer reads at once: ``kept`` (g, K) channels; the taps of a convolution, ``stride`` places
    apart being looked at of all that there are."""

    kept: Array
    stride: int


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Array) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, inputs: Mapping[str, Array], outputs: Mapping[str, str]) -> onnx.ModelProto:
        named = [helper.make_node("Identity", [source], [name]) for name, source in outputs.items()]
        ends = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
            for n, a in inputs.items()
        ]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([*self.nodes, *named], "moments", ends, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _places(build: _Builder, source: str, stride: int, lead: Sequence[int]) -> str:
    """(N, C, P...) -> (lead..., M): every ``stride``-th place of every sample."""
    flat = build.op("Reshape", source, build.ints(0, 0, -1))
    if stride > 1:
        flat = build.op("Slice", flat, build.ints(0), build.ints(END), build.ints(2), build.ints(stride))
    return build.op("Reshape", build.op("Transpose", flat, perm=[1, 0, 2]), build.ints(*lead, -1))


def _patches(build: _Builder, layer: Layer, window: Window, source: str, kernel: Sequence[int]) -> str:
    """(g, D, M)."""
    groups, kept = window.kept.shape
    channels = build.constant(window.kept.ravel().astype(np.int64))
    if layer.node.op != "Conv":
        flat = build.op("Gather", source, channels, axis=layer.axis)
        rows = build.op("Reshape", flat, build.ints(-1, kept))
        if window.stride > 1:
            rows = build.op("Slice", rows, build.ints(0), build.ints(END), build.ints(0), build.ints(window.stride))
        return build.op("Reshape", build.op("Transpose", rows, perm=[1, 0]), build.ints(1, kept, -1))
    attrs, rank = layer.node.attrs, len(kernel)
    pads = list(attrs.get("pads", ())) or [0] * (2 * rank)
    strides, dilations = (list(attrs.get(n, ())) or [1] * rank for n in ("strides", "dilations"))
    picked = build.op("Gather", source, channels, axis=1)
    if any(pads):
        picked = build.op("Pad", picked, build.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    axes, steps = build.ints(*range(2, 2 + rank)), build.ints(*strides)
    taps: list[str] = []
    for tap in itertools.product(*(range(n) for n in kernel)):
        starts = [i * d for i, d in zip(tap, dilations, strict=True)]
        ends = [-(n - 1 - i) * d or END for n, i, d in zip(kernel, tap, dilations, strict=True)]
        cut = build.op("Slice", picked, build.ints(*starts), build.ints(*ends), axes, steps)
        taps.append(_places(build, cut, window.stride, (groups, kept)))
    return taps[0] if len(taps) == 1 else build.op("Concat", *taps, axis=1)


def _targets(build: _Builder, layer: Layer, window: Window, outputs: int) -> str:
    """(g, O, M)."""
    groups = len(window.kept)
    if layer.node.op == "Conv":
        return _places(build, "y", window.stride, (groups, outputs // groups))
    rows = build.op("Reshape", "y", build.ints(-1, outputs))
    if window.stride > 1:
        rows = build.op("Slice", rows, build.ints(0), build.ints(END), build.ints(0), build.ints(window.stride))
    return build.op("Reshape", build.op("Transpose", rows, perm=[1, 0]), build.ints(1, outputs, -1))


Batch = tuple[Array, Array]
"""What a layer reads, and what it is to give."""


def _set_up(layer: Layer, window: Window, weight: Array, batch: Batch) -> tuple[_Builder, dict[str, Array], str, str]:
    """A builder with patches and targets in it, what a batch feeds it, and their names."""
    build = _Builder()
    inputs = {"x": batch[0], "y": batch[1].astype(np.float32, copy=False)}
    p = _patches(build, layer, window, build.op("Cast", "x", to=TensorProto.FLOAT), weight.shape[2:])
    return build, inputs, p, _targets(build, layer, window, weight.shape[layer.weight_axes[0]])


def layer_rows(
    layer: Layer, window: Window, weight: Array, batches: Sequence[Batch], engine: Engine
) -> list[list[Rows]]:
    """Samples themselves, (batch, group): for fewer places than features."""
    build, inputs, p, y = _set_up(layer, window, weight, batches[0])
    run = engine(build.model(inputs, {"p": p, "y_out": y}))
    found: list[list[Rows]] = []
    for x, target in batches:
        out = run({"x": x, "y": target.astype(np.float32, copy=False)})
        found.append([Rows(p.T, y.T) for p, y in zip(out["p"], out["y_out"], strict=True)])
    return found


def layer_moments(
    layer: Layer, window: Window, weight: Array, batches: Sequence[Batch], engine: Engine
) -> list[list[Moments]]:
    """Moments of even and of odd batches, (half, group)."""
    build, inputs, p, y = _set_up(layer, window, weight, batches[0])
    turned = build.op("Transpose", p, perm=[0, 2, 1])
    outputs = {
        "pp": build.op("MatMul", p, turned),
        "yp": build.op("MatMul", y, turned),
        "sum_p": build.op("ReduceMean", p, axes=[2], keepdims=0),
        "sum_y": build.op("ReduceMean", y, axes=[2], keepdims=0),
        "sum_yy": build.op("ReduceMean", build.op("Mul", y, y), axes=[2], keepdims=0),
        "places": build.op("Shape", p),
    }
    run = engine(build.model(inputs, outputs))
    halves: list[list[Moments]] = [[], []]
    for at, (x, target) in enumerate(batches):
        out = run({"x": x, "y": target.astype(np.float32, copy=False)})
        count = float(out["places"][2])
        pp, yp = (out[n].astype(np.float64) for n in ("pp", "yp"))
        p1, y1, yy = (out[n].astype(np.float64) * count for n in ("sum_p", "sum_y", "sum_yy"))
        new = [Moments(count, p1[g], y1[g], pp[g], yp[g], yy[g]) for g in range(len(pp))]
        halves[at % 2] = [a + b for a, b in zip(halves[at % 2], new, strict=True)] if halves[at % 2] else new
    return halves


def channel_moments(
    axis: int, occurrences: Sequence[tuple[int, int, int]], size: int, batches: Sequence[Array], engine: Engine
) -> tuple[float, Array, Array]:
    """(count, sums (C,), second moments (C, C)) of channels that stand in ``occurrences`` (start, outer, inner) on an
    axis of a tensor."""
    build = _Builder()
    rank = batches[0].ndim
    x = build.op("Cast", "x", to=TensorProto.FLOAT)
    front = build.op("Transpose", x, perm=[axis, *(d for d in range(rank) if d != axis)])
    rows = build.op("Reshape", front, build.ints(batches[0].shape[axis], -1))
    parts: list[str] = []
    for start, outer, inner in occurrences:
        ends = build.ints(start), build.ints(start + outer * size * inner)
        cut = build.op("Slice", rows, *ends, build.ints(0))
        spread = build.op("Reshape", cut, build.ints(outer, size, -1))
        parts.append(build.op("Reshape", build.op("Transpose", spread, perm=[1, 0, 2]), build.ints(size, -1)))
    joined = parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=1)
    outputs = {
        "gram": build.op("MatMul", joined, build.op("Transpose", joined, perm=[1, 0])),
        "mean": build.op("ReduceMean", joined, axes=[1], keepdims=0),
    }
    run = engine(build.model({"x": batches[0]}, outputs))
    count, first, second = 0.0, np.zeros(size), np.zeros((size, size))
    for x_batch in batches:
        out = run({"x": x_batch})
        n = float(math.prod(x_batch.shape) // x_batch.shape[axis] * sum(o * i for _, o, i in occurrences))
        count, first, second = count + n, first + out["mean"].astype(np.float64) * n, second + out["gram"]
    return count, first, second
