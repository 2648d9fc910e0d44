"""Writes the stages between two layers into a model, with their forward and tangent computations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import onnx

from passes.gradients.differentiate import GradientModel, gradient_model
from passes.graph.model import Array, Graph
from passes.shapes.inference import infer_shapes
from passes.statistics.graph_builder import Builder


class Stage(Protocol):
    """A stage between two layers.

    ``forward``: output, and a tensor that the other method needs; ``tangent``: directional derivative of the output
    (forward mode).
    """

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, memory). ``memory``: what `tangent` needs."""

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output for the ``change`` of ``x``, to first order."""


@dataclass(frozen=True)
class Pointwise:
    """Nodes that compute ``result`` from ``source`` elementwise. ``constants``: name -> array; ``shape``: of the
    source, at some size of what varies."""

    nodes: tuple[onnx.NodeProto, ...]
    source: str
    result: str
    constants: Mapping[str, Array]
    shape: tuple[int, ...]
    _made: dict[int, GradientModel] = field(default_factory=dict, repr=False, compare=False)

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, slope): the gradient of the sum of the outputs, each of which depends on one value."""
        if build.opset not in self._made:  # a pair has several models of it
            self._made[build.opset] = self._gradient(build.opset)
        made = self._made[build.opset]
        ones = build.op("Expand", build.number(1), build.op("Shape", x))
        names = build.inline(made.model, {self.source: x, made.seeds[self.result]: ones})
        return names[self.result], names[made.gradients[self.source]]

    def _gradient(self, opset: int) -> GradientModel:
        graph = onnx.helper.make_graph(
            self.nodes,
            "pointwise",
            [onnx.helper.make_tensor_value_info(self.source, onnx.TensorProto.FLOAT, self.shape)],
            [onnx.ValueInfoProto(name=self.result)],
            [onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
        info = infer_shapes(model)
        info.sizes |= dict.fromkeys((n for node in self.nodes for n in node.output), self.shape)
        return gradient_model(Graph(model, info=info), [self.source], seeded=[self.result], kept=[self.result])

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output."""
        return build.op("Mul", change, memory)


@dataclass(frozen=True)
class Pooling:
    """Pooling over windows that tile the input. Global pooling has one ``window`` of the whole ``spatial`` size."""

    kind: str
    window: tuple[int, ...]
    spatial: tuple[int, ...]
    flat: bool = False
    """Whether the spatial axes, then of size 1, are removed."""

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, mask of the maximum in each window)."""
        spread = self._spread(build, x)
        if self.kind == "mean":
            return self._joined(build, build.mean(spread, *self._inner)), ""
        axes = build.ints(*self._inner)
        top = build.op("ReduceMax", spread, axes, keepdims=1) if build.opset >= 18 else ""
        top = top or build.op("ReduceMax", spread, axes=list(self._inner), keepdims=1)
        mask = build.op("Cast", build.op("Equal", spread, top), to=onnx.TensorProto.FLOAT)
        return self._joined(build, build.op("Squeeze", top, axes)), mask

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output."""
        spread = self._spread(build, change)
        if self.kind == "mean":
            return self._joined(build, build.mean(spread, *self._inner))
        return self._joined(build, build.sum(build.op("Mul", spread, memory), *self._inner))

    @property
    def _inner(self) -> list[int]:
        return [3 + 2 * d for d in range(len(self.window))]

    def _spread(self, build: Builder, x: str) -> str:
        """(N, C, n / k, k, ...)."""
        sizes = [m for n, k in zip(self.spatial, self.window, strict=True) for m in (n // k, k)]
        return build.op("Reshape", x, build.ints(0, 0, *sizes))

    def _joined(self, build: Builder, x: str) -> str:
        return build.op("Reshape", x, build.ints(0, 0)) if self.flat else x


@dataclass(frozen=True)
class Flatten:
    """(N, C, ...) -> (N, C ...)."""

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, no memory)."""
        return build.op("Flatten", x, axis=1), ""

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output."""
        return build.op("Flatten", change, axis=1)


@dataclass(frozen=True, eq=False)
class Depthwise:
    """A depthwise convolution: ``weights`` (C, 1, taps...), ``bias`` (C,)."""

    weights: Array
    bias: Array
    geometry: Mapping[str, Any]

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, weights)."""
        weights = build.constant(self.weights)
        given = {**self.geometry, "group": len(self.weights)}
        return build.op("Conv", x, weights, build.constant(self.bias), **given), weights

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output."""
        return build.op("Conv", change, memory, **{**self.geometry, "group": len(self.weights)})
