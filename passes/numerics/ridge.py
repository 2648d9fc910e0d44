"""Solves ridge regression toward a prior, with a strength found by cross-validation on moments or on samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from .arrays import Double, Single
from .threads import threads_for
from .tuning import NUMERICS, RidgeTuning

SINGLE = 1e-6
"""Relative error of a sum of float32 products."""


OVERFLOWS: dict[str, Any] = {"invalid": "ignore", "over": "ignore"}
"""Where weights or samples are not finite, so are losses: the prior stays, and whoever checks the result sees it."""


@dataclass(frozen=True)
class Moments:
    """Sums over samples of features p (D,) and targets y (O,): ``count``; ``p`` (D,), ``y`` (O,), ``pp`` (D, D), ``yp``
    (O, D), ``yy`` the sum of squared targets (O,)."""

    count: float
    p: Double
    y: Double
    pp: Double
    yp: Double
    yy: Double

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    def centred(self) -> "Moments":
        """Sums of products about the means; ``p`` and ``y`` hold the means."""
        p, y, n = self.p / self.count, self.y / self.count, self.count
        # The sums have float32 precision. Where the mean is large, the centred squares have the same absolute error.
        lost = np.diag(SINGLE * np.diag(self.pp))
        return Moments(n, p, y, self.pp - n * np.outer(p, p) + lost, self.yp - n * np.outer(y, p), self.yy - n * y * y)


@dataclass(frozen=True)
class Fit:
    """``weights`` (O, D), ``intercept`` (O,). ``error``: unexplained share of the targets' variance, in 0..1.
    ``strength``: of the ridge that predicts best, the largest where samples are too few to
    tell. The prior may do better."""

    weights: Double
    intercept: Double
    error: float
    strength: float


def fit(
    folds: tuple[Moments, Moments], prior: ArrayLike, intercept: bool = True, tuning: RidgeTuning = NUMERICS.ridge
) -> Fit:
    """Weights toward ``prior`` (O, D) that predict the targets of two sets of samples.

    Minimises  sum ||y - W p - b||^2 + s sum_d m_d ||W_d - prior_d||^2.  Here m_d is the second moment of feature d, or
    `RidgeTuning.least_moment` of the mean of all where that is more. The strength s is the one with which each set
    predicts the other best. Without ``intercept`` b is zero. Where no s predicts better than the prior, the prior is
    returned.
    """
    with threads_for(len(folds[0].p)), np.errstate(**OVERFLOWS):
        return _fit(folds, np.asarray(prior, np.float64), intercept, tuning)


def _fit(folds: tuple[Moments, Moments], prior: Double, intercept: bool, tuning: RidgeTuning) -> Fit:
    best, better = _strength(folds, prior, intercept, tuning)
    both = folds[0] + folds[1]
    whole = both.centred() if intercept else _raw(both)
    weights = _solve(whole, prior, _rest(whole, prior), best, tuning) if better else prior
    shift = whole.y - weights @ whole.p if intercept else np.zeros(len(whole.y))
    power = max(float(whole.yy.sum()), 1e-300)
    return Fit(weights, shift, min(max(_loss(weights, whole) / power, 0.0), 1.0), best)


def _strength(
    folds: tuple[Moments, Moments], prior: Double, intercept: bool, tuning: RidgeTuning
) -> tuple[float, bool]:
    """The strength with which each set predicts the other best, and whether it beats the prior. Some outputs are
    used."""
    if min(fold.count for fold in folds) < 2:
        return tuning.strengths[-1], False
    seen = _some(len(prior), tuning)
    prior = prior[seen]
    some = [replace(f, y=f.y[seen], yp=f.yp[seen], yy=f.yy[seen]) for f in folds]
    parts = [f.centred() if intercept else _raw(f) for f in some]
    rests = [_rest(part, prior) for part in parts]

    def lost(strength: float) -> float:
        ways = zip(parts, rests, parts[::-1], strict=True)
        return sum(_loss(_solve(train, prior, rest, strength, tuning), test) for train, rest, test in ways)

    kept, power = (sum(found) for found in zip(*((_loss(prior, p), float(p.yy.sum())) for p in parts), strict=True))
    return _best(lost, kept, power, tuning)


def _some(outputs: int, tuning: RidgeTuning) -> slice:
    """The outputs that are used to find a strength."""
    return slice(None, None, max(1, outputs // tuning.outputs))


def _best(lost: Callable[[float], float], kept: float, power: float, tuning: RidgeTuning) -> tuple[float, bool]:
    """The strength with the least ``lost``, and whether that is less than ``kept``.

    ``lost``: squared error on samples that were not fitted. ``kept``: squared error of the prior. ``power``: of the
    targets.
    """
    best, least = _lowest(lost, tuning.strengths)
    return best, kept > least + tuning.equal_losses * power


def _lowest(loss: Callable[[float], float], values: Sequence[float]) -> tuple[float, float]:
    """The element of ``values`` with the least loss, and that loss. The search descends from the middle, since the loss
    falls, then rises. A loss that is not a number counts as infinite: it compares with nothing, and ends no search."""
    found: dict[int, float] = {}

    def at(i: int) -> float:
        if i not in found:
            lost = loss(values[i])
            found[i] = np.inf if np.isnan(lost) else lost
        return found[i]

    i = (len(values) - 1) // 2
    while (lower := min(range(max(i - 1, 0), min(i + 2, len(values))), key=lambda j: (at(j), j))) != i:
        i = lower
    return values[i], at(i)


def unit_penalties(second: Double, tuning: RidgeTuning = NUMERICS.ridge) -> Double:
    """The penalties of a ridge of strength 1 for features with these second moments (D,)."""
    return np.maximum(second, tuning.least_moment * float(second.mean()) if len(second) else 0.0)


def _raw(m: Moments) -> Moments:
    return Moments(m.count, np.zeros_like(m.p), np.zeros_like(m.y), m.pp, m.yp, m.yy)


def _rest(m: Moments, prior: Double) -> Double:
    """Cross moments (O, D) of the features with the residuals of the prior."""
    return np.asarray(m.yp - prior @ m.pp)


def _penalties(second: Double, strength: float, tuning: RidgeTuning) -> Double:
    """The term that the ridge adds to the second moments ``second`` (D,) of the features."""
    floor = 1e-6 * max(float(second.max(initial=0.0)), 1e-12)  # for constant features, and for rounding
    return np.asarray(strength * unit_penalties(second, tuning) + floor)


def _solve(m: Moments, prior: Double, rest: Double, strength: float, tuning: RidgeTuning) -> Double:
    system = m.pp + np.diag(_penalties(np.diag(m.pp), strength, tuning))
    try:
        factor = linalg.cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)  # in LAPACK's order
    except linalg.LinAlgError:  # rounding made the system indefinite: this strength cannot be judged
        return prior
    change = linalg.cho_solve(factor, rest.T, check_finite=False)
    return np.asarray(prior + change.T)


def _loss(weights: Double, m: Moments) -> float:
    """Squared error of the targets, summed."""
    return float(m.yy.sum() - 2 * np.sum(weights * m.yp) + np.sum((weights @ m.pp) * weights))


@dataclass(frozen=True)
class SampleRows:
    """Samples themselves, for fewer samples than features: features ``p`` (R, D), targets ``y`` (R, O)."""

    p: Single
    y: Single


def fit_rows(
    folds: tuple[SampleRows, SampleRows], prior: ArrayLike, intercept: bool = True, tuning: RidgeTuning = NUMERICS.ridge
) -> Fit:
    """`fit` in its dual form, for fewer samples than features: systems of the samples' size."""
    with threads_for(sum(len(f.p) for f in folds)), np.errstate(**OVERFLOWS):
        return _fit_rows(folds, np.asarray(prior, np.float64), intercept, tuning)


def _fit_rows(folds: tuple[SampleRows, SampleRows], prior: Double, intercept: bool, tuning: RidgeTuning) -> Fit:
    best, better = _strength_rows(folds, prior, intercept, tuning)
    p = np.concatenate([f.p for f in folds]).astype(np.float64)
    y = np.concatenate([f.y for f in folds]).astype(np.float64)
    means = (p.mean(0), y.mean(0)) if intercept else (np.zeros(p.shape[1]), np.zeros(y.shape[1]))
    p, y = p - means[0], y - means[1]
    weights = prior
    if better:
        size = np.sqrt(_penalties((p * p).sum(0), best, tuning))
        scaled = p / size  # the ridge is then the same for all features
        system = scaled @ scaled.T + np.eye(len(p))
        change = linalg.solve(system, y - p @ prior.T, assume_a="pos", check_finite=False)
        weights = prior + (change.T @ scaled) / size
    left = float(((y - p @ weights.T) ** 2).sum()) / max(float((y * y).sum()), 1e-300)
    return Fit(weights, means[1] - weights @ means[0], min(left, 1.0), best)


def _strength_rows(
    folds: tuple[SampleRows, SampleRows], prior: Double, intercept: bool, tuning: RidgeTuning
) -> tuple[float, bool]:
    """`_strength` in the dual form."""
    if min(len(fold.p) for fold in folds) < 2:
        return tuning.strengths[-1], False
    seen = _some(len(prior), tuning)
    prior = prior[seen]
    parts = [(f.p.astype(np.float64), f.y[:, seen].astype(np.float64)) for f in folds]
    if intercept:
        parts = [(p - p.mean(0), y - y.mean(0)) for p, y in parts]
    rests = [y - p @ prior.T for p, y in parts]
    solved: list[tuple[Double, Double, Double, Double]] = []
    for k, (p, _) in enumerate(parts):
        # One basis for all strengths: without the floor, which is for rounding and does not grow with them.
        size = np.sqrt(np.maximum(unit_penalties((p * p).sum(0), tuning), 1e-30))
        scaled = p / size
        values, vectors = linalg.eigh(scaled @ scaled.T, check_finite=False)
        cross = (parts[1 - k][0] / size) @ scaled.T @ vectors
        solved.append((np.maximum(values, 0), vectors.T @ rests[k], cross, rests[1 - k]))

    def lost(strength: float) -> float:
        each = (rest - cross @ (own / (values + strength)[:, None]) for values, own, cross, rest in solved)
        return sum(float((left**2).sum()) for left in each)

    kept, power = (sum(float((a**2).sum()) for a in found) for found in (rests, [y for _, y in parts]))
    return _best(lost, kept, power, tuning)
