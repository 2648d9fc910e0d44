"""Rules and gradients of reductions, and of ops that depend on the order along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from passes.axes import algebra
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import OpFacts, Pool, PoolWindow
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.layout import CARRIED
from passes.graph.written_norms import takes_part
from passes.interface.errors import Refusal

_HOMOGENEOUS_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
"""Reductions to which zeros add nothing."""


@rule(
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin",
)  # fmt: skip
def reduction(op: Op) -> None:
    """Reduced axes are summed over or frozen (or stay as ones with keepdims). The others pass. The means of a norm that
    is written in several nodes normalise."""
    shape = op.shape(0)
    arg = op.node.op.startswith("Arg")
    axes = [op.attr("axis", 0)] if arg else op.ints(1, "axes")
    if not axes and not op.attr("noop_with_empty_axes", 0):
        axes = list(range(len(shape)))
    reduced = {a % len(shape) for a in axes}
    letters = op.put_all(0)
    kept = [algebra.ONE if axis in reduced else letter for axis, letter in enumerate(letters)]
    if op.node.op == "ReduceMean" and len(reduced) == 1 and takes_part(op.graph, op.node):
        op.drop(letters[-1])
        op.normalises(letters[-1])
    if op.node.op in _SUMS and not op.gives_integers:
        op.sums(algebra.product([letters[axis] for axis in sorted(reduced)]))
    op.put_out_all(kept if op.attr("keepdims", 1) else [t for axis, t in enumerate(kept) if axis not in reduced])
    if op.node.op in ("ReduceMean", "ReduceSum"):
        op.scales(Scaling.LINEAR)
    elif op.node.op in _HOMOGENEOUS_REDUCTIONS:
        op.scales(Scaling.HOMOGENEOUS)


facts("ReduceMean", known=replace(CARRIED, pool=Pool("mean", PoolWindow.AXES), sizing=(1,)))
facts("ReduceMax", known=replace(CARRIED, pool=Pool("max", PoolWindow.AXES), sizing=(1,)))
facts("ReduceMin", known=replace(CARRIED, sizing=(1,)))
facts(*_SUMS, known=OpFacts(sizing=(1,), zeros_add_nothing=True))
facts("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", known=OpFacts(sizing=(1,)))
facts("ArgMax", "ArgMin", known=OpFacts(decides=True))


@rule("CumSum", "DFT", "TopK", "Trilu")
def ordered(op: Op) -> None:
    """An axis is frozen if the result depends on the order along it. The others pass. A DFT's last axis holds real and
    imaginary parts."""
    kind, shape = op.node.op, op.shape(0)
    letters = [op.letter(n) for n in shape]
    if kind == "Trilu":
        axes = [len(shape) - 2, len(shape) - 1]
    elif kind == "DFT":
        axes = [*(op.ints(2) or [op.attr("axis", -2 if op.graph.opset >= 20 else 1)]), len(shape) - 1]
    else:
        axes = op.ints(1) if kind == "CumSum" else [op.attr("axis", -1)]
    for a in axes:
        letters[a] = algebra.atom(shape[a], op.why("depends on its order"))
    for axis, letter in enumerate(letters):
        op.put(0, axis, letter)
        for k in range(len(op.node.outputs)):
            size = op.out_shape(k)[axis]
            op.put_out(axis, letter if size == shape[axis] else algebra.atom(size, op.why("depends on its order")), k)
    if kind == "TopK":
        op.jumps()
    else:
        op.scales(Scaling.LINEAR)
        op.makes(factors=[0])


facts("TopK", known=OpFacts(decides=True, sizing=(1,)))
facts("CumSum", "Trilu", known=OpFacts(sizing=(1,)))
facts("DFT", known=OpFacts(sizing=(1, 2)))


# -- gradients ---------------------------------------------------------------------------------------------------------
def _reduced_axes(back: Backward) -> list[int]:
    rank = back.rank()
    axes = back.ints(1, "axes", "axes")
    if not axes and not back.attr("noop_with_empty_axes", 0):
        return list(range(rank))
    return sorted(a % rank for a in axes or ())


def _kept(back: Backward, name: str) -> str:
    """``name``, of the shape of the output, with reduced axes of size one."""
    return name if back.attr("keepdims", 1) else back.write.unsqueeze(name, _reduced_axes(back))


def mean_share(back: Backward) -> str:
    """dY over the number of values of which each output is the mean."""
    sizes = back.dims(), back.out_dims()
    if None not in sizes[0] and None not in sizes[1]:
        return back.times(back.gradient, math.prod(sizes[1]) / math.prod(sizes[0]))  # type: ignore[arg-type]
    outputs, inputs = (back.real(back.op("Size", name)) for name in (back.y(), back.x()))
    return back.op("Mul", back.gradient, back.op("Div", outputs, inputs))


def at_extremum(back: Backward, outer: str, best: str, axes: Sequence[int]) -> str:
    """``outer`` where x is ``best``, both with ``axes`` of size one. Values that are equal share it."""
    different = back.op("Abs", back.op("Sub", back.x(), best))
    flags = back.real(back.op("Not", back.op("Greater", different, back.number(0))))
    return back.op("Mul", back.op("Div", outer, back.write.sum(flags, axes, keepdims=True)), flags)


@gradient("ReduceSum", "ReduceMean")
def _mean_back(back: Backward) -> None:
    """dY, or its share, at each value."""
    share = mean_share(back) if back.node.op == "ReduceMean" else back.gradient
    back.give(0, back.write.spread_like(_kept(back, share), back.x()))


@gradient("ReduceMax", "ReduceMin")
def _extremum_back(back: Backward) -> None:
    """dY where x is the largest or smallest. Values that are equal share it."""
    back.give(0, at_extremum(back, _kept(back, back.gradient), _kept(back, back.y()), _reduced_axes(back)))


@gradient("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum", "ReduceProd")
def _other_reduction_back(back: Backward) -> None:
    """dY times sign(x), x / y, 2 x, exp(x - y), exp(-y) or y / x, which last asks for no x to be zero."""
    outer, x = _kept(back, back.gradient), back.x()
    y = _kept(back, back.y())
    match back.node.op:
        case "ReduceL1":
            slope = back.op("Sign", x)
        case "ReduceL2":
            slope = back.op("Div", x, y)
        case "ReduceSumSquare":
            slope = back.times(x, 2)
        case "ReduceLogSumExp":
            slope = back.op("Exp", back.op("Sub", x, y))
        case "ReduceLogSum":
            slope = back.write.spread_like(back.op("Exp", back.op("Neg", y)), x)
        case _:
            slope = back.op("Div", y, x)
    back.give(0, back.op("Mul", outer, slope))


no_gradient("ArgMax", "ArgMin", why="gives no real numbers")


@gradient("CumSum")
def _cumulative_sum_back(back: Backward) -> None:
    """The cumulative sum from the other end."""
    given = {"exclusive": int(back.attr("exclusive", 0)), "reverse": 1 - int(back.attr("reverse", 0))}
    back.give(0, back.op("CumSum", back.gradient, back.x(1), **given))


@gradient("DFT")
def _fourier_back(back: Backward) -> None:
    """dX = N times the inverse transform of dY over N values, or the transform over N for an inverse; its real part
    where X is real."""
    shape, out, old = back.dims(), back.out_dims(), back.graph.opset < 20
    axis = int(back.attr("axis", 1)) if old else (back.ints(2, "", "axis") or [-2])[0]
    if back.attr("onesided", 0) or shape[axis] is None or shape[axis] != out[axis]:
        raise Refusal("has no gradient where it is one-sided, cut, padded or of a size that varies")
    inverse = 1 - int(back.attr("inverse", 0))
    given = {"axis": axis, "inverse": inverse} if old else {"inverse": inverse}
    found = back.op("DFT", back.gradient, *([] if old else ["", back.write.constant(np.array(axis))]), **given)
    found = back.times(found, float(shape[axis] or 1) ** (2 * inverse - 1))
    back.give(0, back.write.slice(found, [len(shape) - 1], [0], [1]) if shape[-1] == 1 else found)


@gradient("Trilu")
def _trilu_back(back: Backward) -> None:
    """dX is the triangle of dY that the op keeps."""
    offset = [back.x(1)] if back.has(1) else []
    back.give(0, back.op("Trilu", back.gradient, *offset, upper=int(back.attr("upper", 1))))


@gradient("TopK")
def _top_k_back(back: Backward) -> None:
    """dY goes to the places that the values came from, of which no two are equal."""
    back.write.require("ScatterElements", 11)
    zeros = back.zeros_like(back.x())
    back.give(0, back.op("ScatterElements", zeros, back.y(1), back.gradient, axis=int(back.attr("axis", -1))))
