"""Defines what a gradient rule reads and states: the `Backward` of one node.

The rule gets the gradients of a scalar with respect to the node's outputs, and writes those with respect to the inputs
that are asked for (reverse mode: Griewank & Walther, Evaluating Derivatives, 2008, ch. 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx

from passes.axes.gradient_writer import GraphWriter
from passes.axes.node_reader import NodeReader
from passes.graph.model import Array, Graph, Node
from passes.interface.errors import Refusal
from passes.shapes.inference import Shape
from passes.shapes.sizes import Size


class Backward(NodeReader):
    """The backward step of one node.

    ``gradients``: output index -> gradient with respect to it, for the outputs that have one. ``asked``: the inputs
    whose gradient is asked for. ``kinds``: the element type of a tensor. ``forward``: the node as it stands
    in the model that is written, which may be given more outputs.
    """

    reason_prefix: ClassVar[str] = "has no gradient where "

    def __init__(
        self,
        graph: Graph,
        node: Node,
        write: GraphWriter,
        gradients: Mapping[int, str],
        asked: frozenset[int],
        kinds: Callable[[str], int],
        forward: onnx.NodeProto,
    ) -> None:
        super().__init__(graph, node)
        self.write = write
        self.gradients, self.asked, self._kinds, self._forward = gradients, asked, kinds, forward
        self.kind = kinds(node.outputs[min(gradients)])
        self.given: dict[int, str] = {}

    # -- reading ---------------------------------------------------------------------------------------------------
    def wants(self, k: int) -> bool:
        """Whether the gradient with respect to input ``k`` is asked for."""
        return k in self.asked

    def x(self, k: int = 0) -> str:
        """Input ``k``."""
        return self.node.inputs[k]

    def y(self, k: int = 0) -> str:
        """Output ``k``, which the forward node gives from now on even if it did not."""
        outputs = self._forward.output
        while len(outputs) <= k:
            outputs.append("")
        if not outputs[k]:
            outputs[k] = self.write.fresh()
        return str(outputs[k])

    def kind_of(self, k: int) -> int:
        """Element type of input ``k``."""
        return self._kinds(self.node.inputs[k])

    @property
    def gradient(self) -> str:
        """The gradient with respect to output 0."""
        if 0 not in self.gradients:
            raise Refusal("has no gradient from its other outputs alone")
        return self.gradients[0]

    def rank(self, k: int = 0) -> int:
        """Number of axes of input ``k``."""
        return len(self.shape(k))

    def dims(self, k: int = 0) -> list[int | None]:
        """Sizes of input ``k``; None where one may vary."""
        return self._fixed(self.node.inputs[k], self.shape(k))

    def out_dims(self) -> list[int | None]:
        """Sizes of output 0; None where one may vary."""
        return self._fixed(self.node.outputs[0], self.out_shape())

    def _fixed(self, name: str, shape: Shape) -> list[int | None]:
        dynamic = self.graph.info.dynamic
        return [None if isinstance(n, Size) or (name, d) in dynamic else int(n) for d, n in enumerate(shape)]

    def ints(self, k: int, attr: str, what: str) -> list[int] | None:
        """Integers of input ``k``, or of the attribute ``attr`` of older opsets. None if neither is given.

        Raises
        ------
        Refusal: they are computed; ``what`` names them.
        """
        if not self.has(k):
            held = self.attr(attr)
            return None if held is None else [int(n) for n in held]
        value = self.value(k)
        if value is None:
            raise Refusal(f"has no gradient where its {what} are computed")
        return [int(n) for n in np.ravel(value)]

    # -- writing ---------------------------------------------------------------------------------------------------
    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        return self.write.op(kind, *inputs, **attributes)

    def number(self, value: float | Array | Sequence[float]) -> str:
        """A constant of the node's type."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.kind)
        return self.write.constant(np.asarray(value, dtype))

    def real(self, flags: str) -> str:
        """Booleans or integers as numbers of the node's type."""
        return self.write.cast(flags, self.kind)

    def times(self, source: str, factor: float) -> str:
        """``source`` times a number."""
        return source if factor == 1 else self.op("Mul", source, self.number(factor))

    def plus(self, source: str, term: float) -> str:
        """``source`` plus a number."""
        return source if term == 0 else self.op("Add", source, self.number(term))

    def mul(self, first: str, *others: str) -> str:
        """The product of all."""
        for other in others:
            first = self.op("Mul", first, other)
        return first

    def zeros_like(self, source: str) -> str:
        """Zeros in the shape of ``source``."""
        return self.spread(self.number(0), self.write.shape(source))

    def spread(self, source: str, shape: str) -> str:
        """``source`` broadcast to a computed shape."""
        return self.op("Expand", source, shape)

    # -- stating ---------------------------------------------------------------------------------------------------
    def give(self, k: int, gradient: str) -> None:
        """State the gradient with respect to input ``k``, of its shape."""
        self.given[k] = gradient

    def give_broadcast(self, k: int, gradient: str) -> None:
        """State the gradient of input ``k`` from one in the output's shape: the sum over the axes that the input was
        broadcast along."""
        self.give(k, self.reduced(gradient, self.shape(k), self.out_shape()))

    def reduced(self, gradient: str, shape: Shape, out: Shape) -> str:
        """``gradient`` of shape ``out`` summed to ``shape``, which broadcasts to it from the right."""
        lead = len(out) - len(shape)
        axes = list(range(lead))
        for axis, n in enumerate(shape):
            wide = out[lead + axis]
            if n == wide:
                continue
            if isinstance(n, Size):
                raise Refusal("has no gradient where it spreads an axis at some sizes only")
            if n == 1:
                axes.append(lead + axis)
        return self.write.squeeze(self.write.sum(gradient, axes, keepdims=True), list(range(lead)))


Gradient = Callable[[Backward], None]
"""Writes the gradients of a node with respect to its inputs."""
Slope = Callable[[Backward], str]
"""Writes the derivative of a function of each value, in the shape of the output."""


def elementwise_gradient(slope: Slope) -> Gradient:
    """The gradient of a function of each value from its derivative."""

    def pointwise(back: Backward) -> None:
        if back.wants(0):
            back.give(0, back.op("Mul", back.gradient, slope(back)))

    return pointwise
