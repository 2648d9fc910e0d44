"""Minimises a smooth function of many variables in few evaluations (L-BFGS: Nocedal and Wright, Numerical Optimization,
2006, algorithms 7.4 and 7.5).

Values and gradients are of one precision, that of the start, and the memory is a few vectors. A step is tried at full
length, and shortened until the value falls: a search for a better length would cost evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tuning import NUMERICS, LBFGSTuning

Array = NDArray[Any]
Function = Callable[[Array], tuple[float, Array]]
"""Value and gradient (D,) at a point (D,)."""


def minimise(
    function: Function,
    start: Array,
    first_step: float,
    evaluations: int,
    close: float,
    tuning: LBFGSTuning = NUMERICS.lbfgs,
) -> tuple[Array, float]:
    """The point (D,) of least value that was found, the start if no value is less, and the value.

    ``first_step``: root mean square of the change by the first step; ``evaluations``: their largest number, one of
    which is at the start; ``close``: value that is small enough.
    """
    point, left = start, evaluations - 1
    value, gradient = function(point)
    if not (math.isfinite(value) and np.isfinite(gradient).all()):
        return start, value
    history: list[tuple[Array, Array]] = []
    while left > 0 and value > close:
        way = _direction(gradient, history, first_step)
        slope = float(np.vdot(gradient, way))
        if slope >= 0 and not history:  # a stationary point
            break
        if slope >= 0:
            history = []
            continue
        length = 1.0
        while left > 0:
            after = point + length * way
            new, changed = function(after)
            left -= 1
            if new <= value and np.isfinite(changed).all():
                break
            length *= _shortening(value, new, length * slope, tuning)
        else:
            break
        pair = after - point, changed - gradient
        if np.vdot(*pair) > tuning.least_curvature * math.sqrt(np.vdot(pair[0], pair[0]) * np.vdot(pair[1], pair[1])):
            history = [*history, pair][-tuning.history :]
        point, value, gradient = after, new, changed
    return point, value


def _direction(gradient: Array, history: list[tuple[Array, Array]], first_step: float) -> Array:
    """Minus the inverse Hessian that ``history`` implies, times the gradient. Its pairs are changes of the point and of
    the gradient."""
    way = -gradient
    if not history:
        size = math.sqrt(float(np.square(way, dtype=np.float64).mean()))
        return np.asarray(way * (first_step / size if size > 0 else 0.0), gradient.dtype)
    shares: list[float] = []
    for moved, changed in reversed(history):
        shares.append(float(np.vdot(moved, way) / np.vdot(changed, moved)))
        way -= shares[-1] * changed
    moved, changed = history[-1]
    way *= np.vdot(moved, changed) / np.vdot(changed, changed)
    for (moved, changed), share in zip(history, reversed(shares), strict=True):
        way += (share - float(np.vdot(changed, way) / np.vdot(changed, moved))) * moved
    return way


def _shortening(before: float, after: float, slope: float, tuning: LBFGSTuning) -> float:
    """Factor on the length of a step: to the minimum of the parabola through both values, within limits."""
    if not math.isfinite(after):
        return tuning.shortest
    return min(tuning.longest, max(tuning.shortest, -slope / (2 * (after - before - slope))))
