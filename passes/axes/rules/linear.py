"""Rules of ops that sum over channels: convolutions, Gemm, MatMul."""

from __future__ import annotations

import string
from collections.abc import Callable

from passes.axes.algebra import ONE, Term, atom, size
from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import LinearForm, OpFacts
from passes.axes.registry import facts, rule
from passes.axes.rule_context import Op, Scaling
from passes.graph.model import Node
from passes.interface.errors import Refusal


@rule("Conv")
def conv(op: Op) -> None:
    """X: N (g i) ..., W: (g o) i ..., B: (g o) -> Y: N (g o) ...

    A single filter over a line of channels (the gate of ECA) has them on its one spatial axis: X: N 1 c -> Y: N 1 c.
    """
    if len(op.shape(1)) == 3 and op.shape(1)[:2] == (1, 1) and op.shape(0) == op.out_shape():
        op.slides_over(op.pattern("N i c, o i k, o -> N o c")["c"])
        return
    letters = op.pattern("N (g i) ..., (g o) i ..., (g o) -> N (g o) ...", g=op.attr("group", 1))
    op.resize_attr("group", letters["g"])
    op.divides(letters["g"], letters["i"])
    _weighted(op, bias=2)


def convolution_loops(weight: int) -> Callable[[Loops], list[LoopNest]]:
    """Y: N (g o) ... times W: i k... (each output sums over one filter)."""
    return lambda s: [s.output() + s.input(weight)[1:]]


facts(
    "Conv",
    known=OpFacts(
        linear=LinearForm(convolves=True, output_axis=lambda node: 0),
        weights=(1,),
        biases=(2,),
        macs=convolution_loops(1),
    ),
)


def pads(layer: Node) -> bool:
    """Whether a convolution or a pooling op pads its input."""
    auto = layer.attrs.get("auto_pad", "NOTSET")
    return bool(any(layer.attrs.get("pads", ()))) or auto not in ("NOTSET", "VALID")


@rule("ConvTranspose")
def conv_transpose(op: Op) -> None:
    """X: N (g i) ..., W: (g i) o ..., B: (g o) -> Y: N (g o) ..."""
    letters = op.pattern("N (g i) ..., (g i) o ..., (g o) -> N (g o) ...", g=op.attr("group", 1))
    op.resize_attr("group", letters["g"])
    op.divides(letters["g"], letters["i"])
    _weighted(op, bias=2)


def _transposed_loops(s: Loops) -> list[LoopNest]:
    """X: N (g i) ... times W: o k... (each input is spread by one filter)."""
    return [s.input(0) + s.input(1)[1:]]


facts(
    "ConvTranspose",
    known=OpFacts(
        linear=LinearForm(convolves=True, output_axis=lambda node: 1),
        weights=(1,),
        biases=(2,),
        macs=_transposed_loops,
    ),
)


@rule("DeformConv")
def deformable_conv(op: Op) -> None:
    """X: N (g i) ..., W: (g o) i ..., offset: N ..., B: (g o), mask: N ... -> Y: N (g o) ..."""
    if op.attr("offset_group", 1) > 1:
        raise Refusal("moves groups of channels by offsets of their own")
    group = op.attr("group", 1)
    letters = op.pattern("N (g i) ..., (g o) i ..., N ..., (g o), N ... -> N (g o) ...", g=group)
    op.resize_attr("group", letters["g"])
    op.divides(letters["g"], letters["i"])
    _weighted(op, bias=3)


facts("DeformConv", known=OpFacts(weights=(1,), biases=(3,), macs=convolution_loops(1)))


def _weighted(op: Op, bias: int) -> None:
    """Linear in the data. Weights and bias together make a channel. Weights computed from the data are a second
    factor."""
    op.makes(factors=[1], terms=[bias])
    if op.is_constant(1):
        op.scales(Scaling.LINEAR, weights=[1], offsets=[bias])


@rule("Gemm")
def gemm(op: Op) -> None:
    """A: m k (or k m with transA), B: k n (or n k with transB), C broadcast to m n -> Y: m n."""
    a = "k m" if op.attr("transA", 0) else "m k"
    b = "n k" if op.attr("transB", 0) else "k n"
    letters = op.pattern(f"{a}, {b} -> m n")
    if op.has(2):
        place_broadcast(op, 2, [letters["m"], letters["n"]])
    op.scales(Scaling.LINEAR, weights=[0, 1], offsets=[2])
    op.makes(factors=[0, 1], terms=[2])


def matrix_loops(s: Loops) -> list[LoopNest]:
    """Y: ... m n times k, the last axis of A, or the last but one where A is transposed."""
    turned = s.node.attrs.get("transA", 0)
    a = s.input(0)
    return [[*s.output(), a[max(len(a) - 2, 0) if turned else -1]]]


facts(
    "Gemm",
    known=OpFacts(
        linear=LinearForm(convolves=False, output_axis=lambda node: 0 if node.attrs.get("transB", 0) else 1),
        weights=(0, 1),
        biases=(2,),
        macs=matrix_loops,
    ),
)


@rule("MatMul")
def matmul(op: Op) -> None:
    """A: ... m k, B: ... k n -> Y: ... m n, batch axes broadcast; vectors lose their axis in Y."""
    a, b, y = op.shape(0), op.shape(1), op.out_shape()
    if not a or not b:
        raise Refusal("multiplies a scalar")
    k = op.letter(a[-1])
    op.put(0, len(a) - 1, k)
    op.put(1, max(len(b) - 2, 0), k)
    batch = [op.letter(n) for n in y[: len(y) - (len(a) > 1) - (len(b) > 1)]]
    out: list[Term] = list(batch)
    if len(a) > 1:
        m = op.letter(a[-2])
        op.put(0, len(a) - 2, m)
        out.append(m)
    if len(b) > 1:
        n = op.letter(b[-1])
        op.put(1, len(b) - 1, n)
        out.append(n)
    place_broadcast(op, 0, batch, keep=len(a) - 2)
    place_broadcast(op, 1, batch, keep=len(b) - 2)
    op.put_out_all(out)
    op.scales(Scaling.PRODUCT, weights=[0, 1])
    op.makes(factors=[0, 1])


facts(
    "MatMul",
    known=OpFacts(linear=LinearForm(convolves=False, output_axis=lambda node: 1), weights=(0, 1), macs=matrix_loops),
)


@rule("Einsum")
def einsum(op: Op) -> None:
    """The equation gives the axes. Axes under an ellipsis broadcast."""
    operands, arrow, result = op.attr("equation").replace(" ", "").partition("->")
    names = [_subscripts(text, len(op.shape(k))) for k, text in enumerate(operands.split(","))]
    every = [name for own in names for name in own]
    if not arrow:
        once = sorted(name for name in every if len(name) == 1 and every.count(name) == 1)
        result = ("..." if "..." in operands else "") + "".join(once)
    sizes: dict[str, int] = {}
    for k, own in enumerate(names):
        for name, n in zip(own, op.shape(k), strict=True):
            sizes[name] = max(sizes.get(name, 1), n)
    letters = {name: op.letter(n) for name, n in sizes.items()}
    for k, own in enumerate(names):
        for axis, name in enumerate(own):
            op.put(k, axis, letters[name] if op.shape(k)[axis] != 1 else ONE)
    op.put_out_all([letters[name] for name in _subscripts(result, len(op.out_shape()))])
    op.scales(Scaling.PRODUCT, weights=range(len(names)))
    op.makes(factors=range(len(names)))


def _einsum_loops(s: Loops) -> list[LoopNest]:
    """Every letter of the equation once (all operands multiplied in one nest of loops)."""
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


facts("Einsum", known=OpFacts(weights=range(len(string.ascii_letters)), macs=_einsum_loops))


def _subscripts(text: str, rank: int) -> list[str]:
    """Names of an operand's axes. Those under an ellipsis are counted from the right."""
    before, dots, after = text.partition("...")
    spread = rank - len(before) - len(after)
    if spread < 0 or (spread and not dots):
        raise Refusal(f"has an operand with {rank} axes")
    return [*before, *(f"...{i}" for i in reversed(range(spread))), *after]


def place_broadcast(op: Op, k: int, out: list[Term], keep: int | None = None) -> None:
    """Put the output's letters ``out`` on input ``k``, aligned from the right. Axes of size one stay untied.

    ``keep``: how many leading axes of the input take part (all by default).
    """
    shape = op.shape(k)[: len(op.shape(k)) if keep is None else max(keep, 0)]
    if len(shape) > len(out):
        raise Refusal(f"has an input of {len(shape)} axes for an output of {len(out)}")
    for axis, n in enumerate(shape):
        letter = out[len(out) - len(shape) + axis]
        if n == size(letter):
            op.put(k, axis, letter)
            continue
        if n != 1 or (op.node.inputs[k], axis) in op.graph.info.dynamic:
            # It is spread at the sizes where it is one. At others its indices are the letter's.
            op.freeze(letter, "spreads an axis to it at some sizes")
        op.put(k, axis, ONE if n == 1 else atom(n, op.why("spreads it at some sizes")))
