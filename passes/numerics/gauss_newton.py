"""Solves nonlinear least squares by a few steps of conjugate gradients with Gauss-Newton step lengths.

    min over W_1, b_1, W_2, b_2 ...:  ||r||^2 + sum_k tr(S_k (W_k - W_k0) R_k (W_k - W_k0)^T)

The caller computes the residuals r as sums over samples. Each block W (O, D) acts on features with covariance G (D, D).
The matrix S (O, O) weights its outputs by their effect on the residuals. A step follows S^-1 grad G^-1, the natural
gradient of a layer (K-FAC: Martens and Grosse, ICML 2015), made conjugate to the step before (Polak and Ribiere). Its
length minimises a quadratic model of the residuals' change (Martens and Grosse, sec. 6.4). There is no learning rate to
choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .ridge import SINGLE, unit_penalties
from .threads import threads_for
from .tuning import NUMERICS, GaussNewtonTuning, NumericsTuning

Array = NDArray[Any]


@dataclass(frozen=True)
class Affine:
    """Weights (O, D) and bias (O,), zeros without a bias; also their gradients and changes."""

    weights: Array
    bias: Array

    def plus(self, other: Affine, factor: float = 1.0) -> Affine:
        """The sum of this and ``factor`` times another."""
        return Affine(self.weights + factor * other.weights, self.bias + factor * other.bias)

    def dot(self, other: Affine) -> float:
        """Inner product."""
        return float(np.vdot(self.weights, other.weights) + np.vdot(self.bias, other.bias))


class StepMetric:
    """The metric of a block. ``count``: number of places. ``total`` (D,): sums of the features. ``second`` (D, D): sums
    of the features' products. ``outer``: S (O, O), or None for the identity. S and the covariance are damped by the
    share ``damping`` of their diagonals.

    ``biased``: whether the block has a bias. The bias is then parametrised as the output at the features' mean, so that
    weights and bias are independent.
    """

    def __init__(
        self,
        count: float,
        total: Array,
        second: Array,
        outer: Array | None,
        damping: float,
        biased: bool,
        tuning: NumericsTuning = NUMERICS,
    ) -> None:
        self.count, self.biased = count, biased
        self.mean = total / count if biased else np.zeros_like(total)
        # The sums have float32 precision. Where the mean is large, the centred squares have the same absolute error.
        gram = second - count * np.outer(self.mean, self.mean) + SINGLE * np.diag(np.diag(second))
        precision = np.float64 if len(gram) <= tuning.gauss_newton.double_features else np.float32
        self.ridge = damping * _floored(np.diag(gram), tuning)
        self._size = len(gram)
        with threads_for(self._size):
            system = (gram + np.diag(self.ridge)).astype(precision)
            self._inner = linalg.cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)  # LAPACK order
        self.outer = None if outer is None else outer + np.diag(damping * _floored(np.diag(outer), tuning))
        self._outer = None if self.outer is None else linalg.cho_factor(self.outer, lower=True, check_finite=False)

    def centre(self, gradient: Affine) -> Affine:
        """The gradient where the bias is the output at the mean."""
        weights = gradient.weights - np.outer(gradient.bias, self.mean)
        return Affine(weights, gradient.bias if self.biased else np.zeros_like(gradient.bias))

    def raw(self, change: Affine) -> Affine:
        """A change of weights and bias from one of weights and output at the mean."""
        return Affine(change.weights, change.bias - change.weights @ self.mean)

    def step(self, gradient: Affine) -> Affine:
        """S^-1 gradient G^-1."""
        right = gradient.weights.T.astype(self._inner[0].dtype, copy=False)  # else the factor is converted
        with threads_for(self._size):
            weights = linalg.cho_solve(self._inner, right, check_finite=False).T
        bias = gradient.bias / self.count
        if self._outer is not None:
            weights, bias = (linalg.cho_solve(self._outer, a, check_finite=False) for a in (weights, bias))
        return Affine(np.asarray(weights, np.float64), bias)

    def pull(self, away: Array) -> Array:
        """Half the gradient of the ridge at a distance ``away`` (O, D) from the start."""
        pulled = away * self.ridge
        return pulled if self.outer is None else self.outer @ pulled


def _floored(diagonal: Array, tuning: NumericsTuning) -> Array:
    return np.asarray(np.maximum(unit_penalties(diagonal, tuning.ridge), 1e-30))


Point = Sequence[Affine]
Slope = Callable[[Point], tuple[float, list[Affine]]]
"""Point -> (||r||^2, minus half its gradient, block by block)."""
Curvature = Callable[[Point, Point], float]
"""(point, direction) -> ||J direction||^2."""


def descend(
    start: Point,
    metrics: Sequence[StepMetric],
    slope: Slope,
    curvature: Curvature,
    steps: int,
    tuning: GaussNewtonTuning = NUMERICS.gauss_newton,
) -> tuple[list[Affine], list[float]]:
    """The best point within ``steps`` steps, and ||r||^2 at each."""
    point, best, losses = list(start), list(start), list[float]()
    least, length, power = np.inf, 0.0, 0.0
    direction: list[Affine] = []
    change: list[Affine] = []
    last: list[Affine] = []
    for at in range(steps + 1):
        loss, gradients = slope(point)
        losses.append(loss)
        away = [Affine(p.weights - s.weights, p.bias - s.bias) for p, s in zip(point, start, strict=True)]
        goal = loss + _ridge(away, metrics)
        if not change and not np.isfinite(goal):
            break
        if not goal < least:  # the quadratic step was too long: shorten it and restart the directions
            length, direction = length / tuning.backtrack, []
            point = [b.plus(c, length) for b, c in zip(best, change, strict=True)]
            continue
        gained, least, best = least - goal, goal, point
        if at == steps or gained < tuning.least_gain * goal:
            break
        downhill = [
            Affine(g.weights - m.pull(a.weights), g.bias)
            for g, m, a in zip(
                (m.centre(g) for m, g in zip(metrics, gradients, strict=True)), metrics, away, strict=True
            )
        ]
        natural = [m.step(d) for m, d in zip(metrics, downhill, strict=True)]
        now = _dot(downhill, natural)
        beta = max(0.0, (now - _dot(downhill, last)) / power) if direction and power > 0 else 0.0
        direction = [n.plus(d, beta) for n, d in zip(natural, direction, strict=True)] if beta else natural
        last, power = natural, now
        change = [m.raw(d) for m, d in zip(metrics, direction, strict=True)]
        bend = curvature(point, change) + _ridge(direction, metrics)
        if not bend > 0:
            break
        length = _dot(downhill, direction) / bend
        point = [p.plus(c, length) for p, c in zip(point, change, strict=True)]
    return best, losses


def _ridge(away: Point, metrics: Sequence[StepMetric]) -> float:
    return sum(float(np.vdot(a.weights, m.pull(a.weights))) for a, m in zip(away, metrics, strict=True))


def _dot(one: Point, other: Point) -> float:
    return sum(a.dot(b) for a, b in zip(one, other, strict=True))
