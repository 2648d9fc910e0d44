"""Predicts the loss of the outputs as a function of the width of one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from passes.graph.model import Array
from passes.settings.allocation_tuning import AllocationTuning
from passes.settings.tuning import TUNING


def predicted_loss(lost: Array, measured: Mapping[int, float], tuning: AllocationTuning = TUNING.allocation) -> Array:
    """Loss (C + 1,) with 0, 1, ... C channels left, decreasing.

    ``lost`` (C + 1,): share of the variance of the readers' outputs that is lost, by the greedy selection.
    ``measured``: width -> measured loss of the outputs. Between measured widths the loss is a power of the share.
    """
    if not measured:
        return np.asarray(np.minimum.accumulate(np.append(lost[:-1], 0.0)))
    least = tuning.least_loss
    shares = np.log(np.maximum(lost, least))
    points: dict[float, float] = {}
    for width, of_outputs in measured.items():
        share, value = float(shares[width]), float(np.log(np.clip(of_outputs, least, 1 / least)))
        points[share] = max(value, points.get(share, value))
    at = np.array(sorted(points))
    values = np.maximum.accumulate([points[share] for share in at])
    found = np.interp(shares, at, values)
    below, above = shares < at[0], shares > at[-1]
    found[below] = values[0] + shares[below] - at[0]
    slope = (values[-1] - values[-2]) / (at[-1] - at[-2]) if len(at) > 1 else 1.0
    found[above] = values[-1] + (shares[above] - at[-1]) * np.clip(slope, 1.0, tuning.steepest_power)
    loss = np.exp(found)
    loss[-1] = 0.0
    return np.asarray(np.minimum.accumulate(loss))


def hull(widths: Sequence[int], loss: Array) -> list[int]:
    """The corners of the lower convex hull of ``loss`` (C + 1,) over ``widths``, ascending."""
    corners: list[int] = []
    for width in widths:
        while len(corners) > 1 and _bends_up(loss, corners[-2], corners[-1], width):
            corners.pop()
        corners.append(width)
    return corners


def _bends_up(loss: Array, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the line from a to c."""
    return bool((loss[b] - loss[a]) * (c - b) >= (loss[c] - loss[b]) * (b - a))
