"""Finds the linear layers whose weights can be solved for: convolutions and matrix products with constant weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from passes.axes.inference import Typing
from passes.axes.op_facts import LinearForm
from passes.axes.registry import facts_of
from passes.graph.added_bias import added_bias
from passes.graph.model import Graph, Node
from passes.statistics.residual_sums import ConcatenatedAddend, concatenated_addends


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """Y = W X + b.

    ``weight``: an initializer that no other node reads; ``shift``: (node, input index) that adds b, None if there is no
    such input; ``output``: Y including b; ``sum``: output of the Add or Sum that reads Y, None if there is none;
    ``others``: its other operands; ``around``: addends of the sum behind a Concat that Y, or that sum, goes into.
    """

    node: Node
    weight: str
    shift: tuple[Node, int] | None
    output: str
    sum: str | None = None
    others: tuple[str, ...] = ()
    around: tuple[ConcatenatedAddend, ...] = ()

    @property
    def data(self) -> str:
        """The input tensor."""
        return self.node.inputs[0]

    @property
    def convolves(self) -> bool:
        """Whether the layer is a convolution."""
        return self._form.convolves

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution, with weights (I, O, taps...)."""
        return self.node.op == "ConvTranspose"

    @property
    def axis(self) -> int:
        """The channel axis of ``data`` and of ``output``."""
        return 1 if self.convolves else -1

    @property
    def weight_axes(self) -> tuple[int, int]:
        """(output, input) axes of the weights."""
        output = self._form.output_axis(self.node)
        return output, 1 - output

    @property
    def _form(self) -> LinearForm:
        form = facts_of(self.node.domain, self.node.op).linear
        assert form is not None
        return form

    @property
    def groups(self) -> int:
        """Groups of a convolution."""
        return int(self.node.attrs.get("group", 1)) if self.convolves else 1


def geometry(node: Node, rank: int) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and dilations of a convolution over ``rank`` axes."""
    pads = list(node.attrs.get("pads", ())) or [0] * (2 * rank)
    strides, dilations = (list(node.attrs.get(n, ())) or [1] * rank for n in ("strides", "dilations"))
    return strides, pads, dilations


def output_padding(node: Node, rank: int) -> list[int]:
    """Places that a transposed convolution adds at the end of each output axis."""
    return list(node.attrs.get("output_padding", ())) or [0] * rank


def solvable_layers(typing: Typing) -> dict[int, LinearLayer]:
    """Node index -> layer, in graph order."""
    found = (_layer(typing.graph, node) for node in typing.graph.nodes)
    return {layer.node.index: layer for layer in found if layer is not None}


def _layer(graph: Graph, node: Node) -> LinearLayer | None:
    if facts_of(node.domain, node.op).linear is None or node.inputs[1] not in graph.initializers:
        return None
    if node.inputs[0] in graph.constants or len(graph.users[node.inputs[1]]) > 1 or node.inputs[1] in graph.captured:
        return None
    shape = graph.shape(node.inputs[1]) or ()
    if len(shape) < 2 or (node.op == "MatMul" and len(shape) > 2):
        return None
    if len(graph.shape(node.inputs[0]) or ()) < 2:  # unknown, or a vector, whose values are no rows of samples
        return None
    plain = all(float(node.attrs.get(name, 1.0)) == 1.0 for name in ("alpha", "beta")) and not node.attrs.get(
        "transA", 0
    )
    if not plain or graph.array(node.inputs[1]).dtype.kind != "f":
        return None
    if node.op == "Conv" and (shape[1] == 1 or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")):
        return None  # a depthwise convolution does not sum over channels
    if node.op == "ConvTranspose" and not _plainly_transposed(node, len(shape) - 2):
        return None
    shift: tuple[Node, int] | None = (node, 2)
    output = node.outputs[0]
    if node.op == "MatMul":
        shift = added_bias(graph, output)
        output = output if shift is None else shift[0].outputs[0]
    elif len(node.inputs) > 2 and node.inputs[2]:
        bias = graph.shape(node.inputs[2]) or ()
        if not graph.knows(node.inputs[2]) or (node.op == "Gemm" and len(bias) > 1 and bias[0] > 1):
            return None  # computed from data, given by a caller, or different for each sample
    joined, others = _sum_reading(graph, output)
    found = LinearLayer(node, node.inputs[1], shift, output, joined, others)
    return replace(found, around=concatenated_addends(graph, node, joined or output, found.axis))


def _plainly_transposed(node: Node, rank: int) -> bool:
    """Whether attributes alone determine the output shape, and every output place depends on some weight."""
    automatic = "output_shape" in node.attrs or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    strides, extra = geometry(node, rank)[0], output_padding(node, rank)
    return (
        not automatic
        and int(node.attrs.get("group", 1)) == 1
        and all(e < s for e, s in zip(extra, strides, strict=True))
    )


def _sum_reading(graph: Graph, name: str) -> tuple[str | None, tuple[str, ...]]:
    """Output of the Add or Sum that alone reads ``name``, and its other operands, which have the same shape."""
    node = graph.only_user(name)
    if node is None or node.op not in ("Add", "Sum"):
        return None, ()
    others = tuple(n for n in node.inputs if n != name)
    if any(n in graph.constants or graph.shape(n) != graph.shape(name) for n in others):
        return None, ()
    return node.outputs[0], others
