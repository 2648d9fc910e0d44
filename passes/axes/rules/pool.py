"""Rules and gradients of pooling."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from passes.axes.convolution_adjoints import END, spread, spread_densely
from passes.axes.gradient_context import Backward
from passes.axes.op_facts import OpFacts, Pool, PoolWindow
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.convolution import pads
from passes.axes.rules.layout import CARRIED
from passes.axes.rules.reduction import at_extremum, mean_share
from passes.axes.window_geometry import WindowGeometry, counts, windows
from passes.graph.model import Array, Node
from passes.interface.errors import Refusal


@rule("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pooling(op: Op) -> None:
    """X: N C ... -> Y: N C ...; windows mix the spatial axes."""
    op.pattern("N C ... -> N C ...")
    if len(op.node.outputs) > 1 and op.node.outputs[1]:
        raise Refusal("returns flat indices")
    op.scales(Scaling.LINEAR if "Average" in op.node.op else Scaling.HOMOGENEOUS)


def _without_padding(node: Node) -> bool:
    """Whether a mean excludes the padded zeros."""
    return not (node.attrs.get("count_include_pad", 0) and (pads(node) or node.attrs.get("ceil_mode", 0)))


facts("AveragePool", known=OpFacts(pool=Pool("mean", PoolWindow.KERNEL), convex_hull=_without_padding, keeps_sign=True))
facts("MaxPool", known=replace(CARRIED, pool=Pool("max", PoolWindow.KERNEL), decides=True))
facts("LpPool", known=OpFacts(pool=Pool("norm", PoolWindow.KERNEL)))
facts("GlobalAveragePool", known=replace(CARRIED, pool=Pool("mean", PoolWindow.ALL)))
facts("GlobalMaxPool", known=replace(CARRIED, pool=Pool("max", PoolWindow.ALL)))
facts("GlobalLpPool", known=OpFacts(pool=Pool("norm", PoolWindow.ALL)))


def _pooled(back: Backward) -> WindowGeometry:
    return windows(back, back.attr("kernel_shape"), back.dims()[2:], back.out_dims()[2:])


def _channels(back: Backward) -> int:
    n = back.dims()[1]
    if n is None:
        raise Refusal("has no gradient where the number of channels varies")
    return n


def _added(back: Backward, source: str, geometry: WindowGeometry) -> str:
    """Each value of ``source``, of the shape of the output, added to every place of its window."""
    channels = _channels(back)
    ones = back.number(np.ones((channels, 1, *geometry.kernel)))
    if geometry.dense:
        return spread_densely(back, source, ones, geometry, (channels, 1, 1))
    return spread(back, source, back.x(), ones, geometry, channels)


@gradient("AveragePool")
def _average_pool_back(back: Backward) -> None:
    """dY over the number of values in its window, at each of them."""
    geometry, padded = _pooled(back), bool(back.attr("count_include_pad", 0))
    if not padded and not any((*geometry.begins, *geometry.ends)):
        number: Array = np.asarray(math.prod(geometry.kernel))
    elif padded and not back.attr("ceil_mode", 0):
        number = np.asarray(math.prod(geometry.kernel))
    else:
        number = counts(geometry, padded, _ends(back, geometry))
    number = number.ravel()[0] if (number == number.ravel()[0]).all() else number
    back.give(0, _added(back, back.op("Mul", back.gradient, back.number(1 / number)), geometry))


def _ends(back: Backward, geometry: WindowGeometry) -> list[int]:
    """The zeros after the input that are counted: those of ``pads``, not those that ceil_mode adds."""
    return [int(p) for p in (back.attr("pads") or [0] * 2 * geometry.rank)[geometry.rank :]]


@gradient("LpPool")
def _lp_pool_back(back: Backward) -> None:
    """y = (sum |x|^p)^(1/p): dX = sign(x) |x|^(p - 1) (the sum over windows of dY y^(1 - p))."""
    p = int(back.attr("p", 2))
    share = back.op("Div", back.gradient, back.op("Pow", back.y(), back.number(p - 1)))
    back.give(0, back.op("Mul", _added(back, share, _pooled(back)), power_slope(back, p)))


@gradient("MaxPool")
def _max_pool_back(back: Backward) -> None:
    """dY goes to the place of the largest value of its window, the first if several are equal."""
    if back.attr("storage_order", 0):
        raise Refusal("has no gradient where it counts places by columns")
    write, geometry = back.write, _pooled(back)
    if write.opset < 11:
        _max_pool_by_taps(back, geometry)
        return
    indices = back.y(1)
    flat = write.op("Reshape", back.zeros_like(back.x()), write.ints(-1))
    if write.opset >= 16:
        at, values = (write.op("Reshape", name, write.ints(-1)) for name in (indices, back.gradient))
        back.give(0, write.shaped_like(back.op("ScatterElements", flat, at, values, reduction="add"), back.x()))
        return
    # windows so far apart that they do not overlap, and no place is written twice
    steps = [(r + s) // s for r, s in zip(geometry.reach, geometry.strides, strict=True)]
    axes = list(range(2, 2 + geometry.rank))
    found: list[str] = []
    for start in itertools.product(*(range(n) for n in steps)):
        bounds = (write.ints(*start), write.ints(*[END] * len(axes)), write.ints(*axes), write.ints(*steps))
        parts = [n if max(steps) == 1 else write.op("Slice", n, *bounds) for n in (indices, back.gradient)]
        at, values = (write.op("Reshape", part, write.ints(-1)) for part in parts)
        found.append(back.op("ScatterElements", flat, at, values))
    back.give(0, write.shaped_like(found[0] if len(found) == 1 else back.op("Sum", *found), back.x()))


def _max_pool_by_taps(back: Backward, geometry: WindowGeometry) -> None:
    """Gradient of MaxPool without ScatterElements. A convolution lays what each tap reads side by side, and its adjoint
    brings back dY where that is the largest value; equal ones share it."""
    write, channels, taps = back.write, _channels(back), math.prod(geometry.kernel)
    kernels = back.number(
        np.tile(np.eye(taps).reshape(taps, 1, *geometry.kernel), (channels, *[1] * (geometry.rank + 1)))
    )
    given = {"strides": list(geometry.strides), "dilations": list(geometry.dilations)}
    pads = [*geometry.begins, *(max(e, 0) for e in geometry.ends)]
    read = back.op("Conv", back.x(), kernels, group=channels, pads=pads, **given)
    each, best, outer = (
        back.op("Reshape", name, write.ints(0, channels, n, -1))
        for name, n in ((read, taps), (back.y(), 1), (back.gradient, 1))
    )
    different = back.op(
        "Greater", back.op("Abs", back.op("Sub", each, best)), back.number(0)
    )  # padded zeros may be larger
    flags = back.real(back.op("Not", different))
    share = back.op("Div", outer, write.sum(flags, [2], keepdims=True))
    passed = write.shaped_like(back.op("Mul", flags, share), read)
    back.give(0, spread(back, passed, back.x(), kernels, geometry, channels))


@gradient("GlobalAveragePool")
def _global_average_back(back: Backward) -> None:
    """dY over the number of places, at each of them."""
    back.give(0, back.write.spread_like(mean_share(back), back.x()))


@gradient("GlobalMaxPool")
def _global_max_back(back: Backward) -> None:
    """dY goes to the largest value; those that are equal share it."""
    back.give(0, at_extremum(back, back.gradient, back.y(), list(range(2, back.rank()))))


@gradient("GlobalLpPool")
def _global_lp_back(back: Backward) -> None:
    """y = (sum |x|^p)^(1/p): dX = dY sign(x) |x|^(p - 1) / y^(p - 1)."""
    p = int(back.attr("p", 2))
    share = back.op("Div", back.gradient, back.op("Pow", back.y(), back.number(p - 1)))
    back.give(0, back.op("Mul", share, power_slope(back, p)))


def power_slope(back: Backward, p: int) -> str:
    """sign(x) |x|^(p - 1)."""
    if p == 2:
        return back.x()
    sign = back.op("Sign", back.x())
    return sign if p == 1 else back.op("Mul", sign, back.op("Pow", back.op("Abs", back.x()), back.number(p - 1)))
