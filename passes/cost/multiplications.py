"""The multiply-adds of each op, as sums of products of axes, and the inputs that hold its weights.

A *product* is the list of a node's loops: (tensor, axis) stands for the size of that axis, an integer for itself. The
multiply-adds are the sum of the products, so that they are known at any widths (`passes.cost.footprint`). Written with
einops' letters:

=====================  ==================================================================================
Conv                   Y: N (g o) ... times W: i k...             (each output sums over one filter)
ConvTranspose          X: N (g i) ... times W: o k...             (each input is spread by one filter)
Gemm, MatMul           Y: ... m n times k
RNN, GRU, LSTM         T N times W: d (z h) i, and T N times R: d (z h) h
Einsum                 every letter of the equation once          (the operands multiplied in one go)
Attention              Q: ... d times S (scores), and Y: ... e times S (values)
=====================  ==================================================================================

Their quantised and fused forms do as many. All other ops count as free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from passes.graph.model import STANDARD_DOMAINS, Graph, Node

Factor = tuple[str, int] | int
Product = list[Factor]
MICROSOFT = "com.microsoft"


class _Shapes:
    """Axes of a node's tensors. Raises KeyError where a shape is unknown."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph, self.node = graph, node

    def of(self, name: str) -> Product:
        return [(name, axis) for axis in range(len(self._graph.info.shapes[name]))]

    def size(self, factor: tuple[str, int]) -> int:
        return self._graph.info.shapes[factor[0]][factor[1]]

    def has(self, k: int) -> bool:
        return k < len(self.node.inputs) and self.node.inputs[k] != ""

    def input(self, k: int) -> Product:
        return self.of(self.node.inputs[k])

    def output(self) -> Product:
        return self.of(self.node.outputs[0])


Count = Callable[[_Shapes], list[Product]]


@dataclass(frozen=True)
class Multiplying:
    """An op that multiplies. ``weights``: the inputs that hold its weights and biases, where they are constant;
    ``count``: its products."""

    weights: tuple[int, ...]
    count: Count


def _convolution(weight: int) -> Count:
    return lambda s: [s.output() + s.input(weight)[1:]]


def _transposed(s: _Shapes) -> list[Product]:
    return [s.input(0) + s.input(1)[1:]]


def _matrix(s: _Shapes) -> list[Product]:
    """The axis that is summed over is the last of A, or the last but one where A is transposed."""
    turned = s.node.attrs.get("transA", 0)
    a = s.input(0)
    return [[*s.output(), a[max(len(a) - 2, 0) if turned else -1]]]


def _recurrent(s: _Shapes) -> list[Product]:
    steps = s.input(0)[:2]
    return [steps + s.input(1), steps + s.input(2)]


def _einsum(s: _Shapes) -> list[Product]:
    operands = s.node.attrs["equation"].replace(" ", "").partition("->")[0].split(",")
    if len(operands) < 2:
        return []
    loops: dict[str, tuple[str, int]] = {}
    for k, text in enumerate(operands):
        before, dots, after = text.partition("...")
        axes = s.input(k)
        spread = [f"...{i}" for i in reversed(range(len(axes) - len(before) - len(after)))] if dots else []
        for letter, axis in zip([*before, *spread, *after], axes, strict=True):
            assert not isinstance(axis, int)
            if letter not in loops or s.size(axis) > s.size(loops[letter]):
                loops[letter] = axis
    return [list(loops.values())]


def _attention(s: _Shapes) -> list[Product]:
    """Keys: B n S d, or B S (n d); packed with the values, B S n 2 d; with queries too, B S n 3 d in input 0."""
    queries = s.input(0)
    if not s.has(1):
        return [[*queries[:3], queries[4], queries[1]]] * 2
    keys = [s.input(1)[2 if len(s.input(1)) == 4 else 1]]
    if not s.node.domain and s.has(4):  # keys of earlier tokens
        keys.append(s.input(4)[2])
    return [[*axes, key] for key in keys for axes in (queries, s.output())]


def _projected_attention(s: _Shapes) -> list[Product]:
    """X: B S i, W: i (3 n d) -> Y: B S (n d), with its projections."""
    places, steps = s.input(0)[:2], s.input(0)[1]
    return [places + s.input(1), *[[*s.output(), steps]] * 2]


def _table(domain: str, **ops: Multiplying) -> dict[tuple[str, str], Multiplying]:
    return {(domain, name): op for name, op in ops.items()}


_LSTM = Multiplying((1, 2, 3), _recurrent)
MULTIPLYING: dict[tuple[str, str], Multiplying] = {
    **_table(
        "",
        Conv=Multiplying((1, 2), _convolution(1)),
        ConvTranspose=Multiplying((1, 2), _transposed),
        DeformConv=Multiplying((1, 3), _convolution(1)),
        ConvInteger=Multiplying((1,), _convolution(1)),
        QLinearConv=Multiplying((3, 8), _convolution(3)),
        Gemm=Multiplying((0, 1, 2), _matrix),
        MatMul=Multiplying((0, 1), _matrix),
        MatMulInteger=Multiplying((0, 1), _matrix),
        QLinearMatMul=Multiplying((0, 3), _matrix),
        RNN=_LSTM,
        GRU=_LSTM,
        LSTM=_LSTM,
        Einsum=Multiplying((0, 1, 2, 3), _einsum),
        Attention=Multiplying((), _attention),
    ),
    **_table(
        MICROSOFT,
        FusedConv=Multiplying((1, 2), _convolution(1)),
        NhwcFusedConv=Multiplying((1, 2), _convolution(1)),
        FusedGemm=Multiplying((0, 1, 2), _matrix),
        FusedMatMul=Multiplying((0, 1), _matrix),
        TransposeMatMul=Multiplying((0, 1), _matrix),
        DynamicQuantizeLSTM=_LSTM,
        DynamicQuantizeMatMul=Multiplying((1, 4), _matrix),
        MatMulIntegerToFloat=Multiplying((0, 1, 6), _matrix),
        MatMulInteger16=Multiplying((0, 1), _matrix),
        MatMulNBits=Multiplying((1, 5), _matrix),
        MatMulBnb4=Multiplying((1,), _matrix),
        MatMulFpQ4=Multiplying((1,), _matrix),
        QGemm=Multiplying((0, 3, 6), _matrix),
        QLinearConv=Multiplying((3, 8), _convolution(3)),
        Attention=Multiplying((1, 2), _projected_attention),
        QAttention=Multiplying((1, 2), _projected_attention),
        MultiHeadAttention=Multiplying((3,), _attention),
        GroupQueryAttention=Multiplying((), _attention),
    ),
}
"""(domain, op) -> what it multiplies."""

HALVED = {"MatMulNBits": 1, "MatMulBnb4": 1}
"""Ops of whose packed weights a byte holds two (or 8 / bits), and the input that is packed."""


def multiplying(node: Node) -> Multiplying | None:
    """What ``node`` multiplies, if it is an op that does."""
    return MULTIPLYING.get(("" if node.domain in STANDARD_DOMAINS else node.domain, node.op))


def mac_products(graph: Graph, node: Node) -> list[Product]:
    """Loops of the node whose sizes' products add up to its multiply-adds; none if it is free or a shape is unknown."""
    op = multiplying(node)
    if op is None:
        return []
    try:
        return op.count(_Shapes(graph, node))
    except (KeyError, IndexError, ValueError):  # a shape is unknown, or not what the op's definition says
        return []


def weight_inputs(node: Node) -> Iterator[str]:
    """Names of the inputs that hold the node's weights and biases, where they are constant."""
    op = multiplying(node)
    yield from (node.inputs[k] for k in (op.weights if op else ()) if k < len(node.inputs) and node.inputs[k])


def sizes(graph: Graph, product: Sequence[Factor]) -> list[int]:
    """The concrete sizes of a product's factors."""
    return [f if isinstance(f, int) else graph.info.shapes[f[0]][f[1]] for f in product]
