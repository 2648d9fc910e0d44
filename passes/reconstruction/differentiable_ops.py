"""Writes the stages between two layers into a model, with their forward and tangent computations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import onnx

from passes.axes.op_facts import NodeBuilder
from passes.axes.registry import facts_of
from passes.graph.model import Array
from passes.settings.tuning import TUNING
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
    """Nodes that compute ``result`` from ``source`` elementwise. ``constants``: name -> array."""

    nodes: tuple[onnx.NodeProto, ...]
    source: str
    result: str
    constants: Mapping[str, Array]

    def forward(self, build: Builder, x: str) -> tuple[str, str]:
        """(output, slope)."""
        names = {n: build.constant(a) for n, a in self.constants.items()}
        exact = _exact(self.nodes[0]) if len(self.nodes) == 1 else None
        if exact is not None:
            slope = exact(build, x)
            return self._value(build, x, names), slope
        size = build.op("Add", build.op("Abs", x), build.number(1))
        step = build.op("Mul", size, build.number(TUNING.reconstruction.difference_step))
        ends = (self._value(build, build.op(sign, x, step), names) for sign in ("Add", "Sub"))
        width = build.op("Add", step, step)
        return self._value(build, x, names), build.op("Div", build.op("Sub", *ends), width)

    def _value(self, build: Builder, x: str, names: Mapping[str, str]) -> str:
        known = {**names, self.source: x}
        for node in self.nodes:
            known[node.output[0]] = build.copy(node, known)
        return known[self.result]

    def tangent(self, build: Builder, x: str, memory: str, change: str) -> str:
        """Change of the output."""
        return build.op("Mul", change, memory)


def _exact(node: onnx.NodeProto) -> Callable[[NodeBuilder, str], str] | None:
    """The function that writes the derivative of ``node``. None if its op states none."""
    derivative = facts_of(node.domain, node.op_type).derivative
    return None if derivative is None else derivative.exact


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
