"""Rules and gradients of convolutions."""

from __future__ import annotations

from collections.abc import Callable

from passes.axes.convolution_adjoints import correlated, spread, spread_densely
from passes.axes.gradient_context import Backward
from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import LinearForm, OpFacts
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.window_geometry import WindowGeometry, windows
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
    form, group = "N (g i) ..., (g o) i ..., (g o) -> N (g o) ...", op.attr("group", 1)
    letters = op.pattern(form, _unmixed(op), g=group)
    op.resize_attr("group", letters["g"])
    op.divides(letters["g"], letters["i"])
    _weighted(op, bias=2)


def _unmixed(op: Op) -> list[int]:
    """The spatial axes whose places pass one by one: the kernel reads one of them, and moves by one. Channels stand
    there where a convolution is a layer of the tokens, as in gMLP, or of pairs of features."""
    rank = len(op.shape(1)) - 2
    strides, sides = op.attr("strides") or [1] * rank, op.attr("pads") or [0] * 2 * rank
    return [
        axis + 2
        for axis, (size, stride) in enumerate(zip(op.shape(1)[2:], strides, strict=True))
        if size == stride == 1 and not sides[axis] and not sides[axis + rank]
    ]


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


@gradient("Conv")
def _conv_back(back: Backward) -> None:
    """dX: the adjoint convolution; dW: the correlation of X and dY; dB: the sum of dY over samples and places."""
    shape, kernel = _channels(back, transposed=False), back.shape(1)[2:]
    geometry = windows(back, kernel, back.dims()[2:], back.out_dims()[2:])
    small = shape[1:] == (1, 1) or all(k == 1 for k in kernel)
    if back.wants(0) and geometry.dense and (small or not back.wants(1)):  # kernels that are fed cost time to reverse
        back.give(0, spread_densely(back, back.gradient, back.x(1), geometry, shape))
    elif back.wants(0):
        back.give(0, spread(back, back.gradient, back.x(), back.x(1), geometry, shape[0]))
    if back.wants(1):
        back.give(1, correlated(back, back.x(), back.gradient, geometry, shape))
    if back.wants(2):
        back.give(2, back.write.sum(back.gradient, _but_channels(back)))


@gradient("ConvTranspose")
def _conv_transpose_back(back: Backward) -> None:
    """It is the adjoint of a convolution of dY, which gives dX; dW: the correlation of dY and X."""
    shape, geometry = _channels(back, transposed=True), _transposed_windows(back)
    if back.wants(0):
        pads = [*geometry.begins, *geometry.ends]
        given = {"strides": list(geometry.strides), "dilations": list(geometry.dilations)}
        back.give(0, back.op("Conv", back.gradient, back.x(1), group=shape[0], pads=pads, **given))
    if back.wants(1):
        back.give(1, correlated(back, back.gradient, back.x(), geometry, shape))
    if back.wants(2):
        back.give(2, back.write.sum(back.gradient, _but_channels(back)))


no_gradient("DeformConv", why="reads computed places, and no rule gives its gradient")


def _channels(back: Backward, transposed: bool) -> tuple[int, int, int]:
    """Groups, and the channels of one on both sides of a convolution; the weights are (g o, i, taps...)."""
    rows, inputs = back.shape(1)[:2]
    group = int(back.attr("group", 1))
    return group, int(rows) // group, int(inputs)


def _transposed_windows(back: Backward) -> WindowGeometry:
    """The windows of the convolution that reads Y and gives X."""
    kernel, sizes, places = back.shape(1)[2:], back.out_dims()[2:], back.dims()[2:]
    automatic = back.attr("auto_pad", "NOTSET")
    if back.attr("output_shape") is None and automatic in ("NOTSET", "VALID"):
        return windows(back, kernel, sizes, places)
    strides, dilations = (back.attr(name) or [1] * len(kernel) for name in ("strides", "dilations"))
    begins: list[int] = []
    ends: list[int] = []
    for n, m, k, s, d in zip(sizes, places, kernel, strides, dilations, strict=True):
        if n is None or m is None:
            raise Refusal("has no gradient where its padding depends on a size that varies")
        total = max((m - 1) * s + d * (k - 1) + 1 - n, 0)
        begins.append(total // 2 if automatic == "SAME_UPPER" else total - total // 2)
        ends.append(total - begins[-1])
    return WindowGeometry(
        tuple(kernel), tuple(strides), tuple(dilations), tuple(begins), tuple(ends), tuple(sizes), tuple(places)
    )


def _but_channels(back: Backward) -> list[int]:
    return [0, *range(2, len(back.out_shape()))]
