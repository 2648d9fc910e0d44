"""Estimates covariances from few samples: the number of independent samples, and shrinkage.

A covariance S of n samples in C dimensions overstates how well channels predict each other: n points span at most n
directions, and S has no variance in any other. Shrinkage toward a multiple of the identity,

    (1 - r) S + r mu I,    mu = tr(S) / C,

is the posterior mean of the covariance under a prior of that shape. The loss of predicting some channels from others is
linear in the covariance. Its expectation on fresh samples therefore follows from the shrunk covariance.
"""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .arrays import Bools, Double, Index
from .tuning import NUMERICS, ShrinkageTuning


def independent_samples(variance: float, places: float, means: Double) -> float:
    """Number of independent samples that give a mean as precisely as ``places`` places of n samples.

    ``variance``: summed over channels, of all places. ``means`` (n, C): of each sample. Places of one sample are
    correlated, so the sample's mean varies more than that of as many independent places. The ratio is the design effect
    of a cluster sample (Kish, Survey Sampling, 1965, sec. 5.4). Adjacent samples may be correlated as well, as an image
    and its mirror image are: they are treated as clusters of two. The result lies between half of n and ``places``.
    """
    count = len(means)
    away = means - means.mean(axis=0)
    spread = float(np.sum(away * away))
    if count < 2 or not spread > 0 or not variance > 0:
        return float(places if spread > 0 or count > 1 else count)
    alone = min(places, max(count, variance * count * (count - 1) / spread))
    pairs = count // 2
    together = 2 * float(np.sum(away[0 : 2 * pairs : 2] * away[1 : 2 * pairs : 2])) / spread
    return float(alone / (1 + min(1.0, max(0.0, together))))


def oas(covariance: Double, count: float) -> float:
    """The share r of the identity in a covariance (C, C) of ``count`` samples by the Oracle Approximating Shrinkage
    estimator (Chen, Wiesel, Eldar and Hero, IEEE Trans. Signal Processing 2010, eq. 23), without the terms in 2 / C, as
    scikit-learn has it.

    It comes close to the r with the least expected squared error of Gaussian samples.
    """
    return oas_share(float(np.trace(covariance)), float(np.sum(covariance * covariance)), len(covariance), count)


def oas_share(trace: float, square: float, size: int, count: float) -> float:
    """`oas` of a covariance with that trace and sum of squares, of ``size`` channels."""
    rest = (count + 1) * (square - trace**2 / max(1, size))
    return 1.0 if rest <= 0 else min(1.0, (square + trace**2) / rest)


def varying(variances: Double, tuning: ShrinkageTuning = NUMERICS.shrinkage) -> Bools:
    """Which channels (C,) vary at all."""
    return np.asarray(variances > tuning.dead_variance * max(float(variances.max(initial=0.0)), 0.0))


def shrunk(
    covariance: Double, count: float, factor: float = 1.0, tuning: ShrinkageTuning = NUMERICS.shrinkage
) -> Double:
    """A covariance (C, C) of ``count`` independent samples, shrunk by ``factor`` times the share of `oas`. Constant
    channels stay constant."""
    alive = varying(np.diag(covariance), tuning)
    if not alive.any():
        return covariance
    part = covariance if alive.all() else covariance[np.ix_(alive, alive)]
    share = min(1.0, factor * oas(part, count))
    found = (1 - share) * covariance
    found[alive, alive] += share * float(np.trace(part)) / len(part)
    return np.asarray(found)


def shrunk_toward(covariance: Double, count: float, target: Double, factor: float = 1.0) -> Double:
    """A covariance (C, C) of ``count`` independent samples, shrunk toward a multiple of another one, the trace staying.

    The share of the target is ``factor`` times that with the least expected squared error (Ledoit and Wolf, A
    well-conditioned estimator for large-dimensional covariance matrices, 2004, sec. 2, for any target):
    E ||S - Sigma||^2 / E ||S - T||^2, the former being (||S||^2 + tr(S)^2) / (n + 1) for Gaussian samples.
    """
    trace, whole = float(np.trace(covariance)), float(np.trace(target))
    if not whole > 0:
        return covariance
    target = target * (trace / whole)
    error = (float(np.sum(covariance * covariance)) + trace**2) / (count + 1)
    away = float(np.sum((covariance - target) ** 2))
    share = 1.0 if away <= factor * error else factor * error / away
    return np.asarray((1 - share) * covariance + share * target)


def prediction(covariance: Double, keep: Index, ridge: float) -> Double:
    """Z (C, K) of x ~ Z x_K about the means, for channels with that covariance (C, C). The diagonal of the kept
    channels is increased by ``ridge`` times itself. Kept channels predict themselves."""
    others = np.setdiff1d(np.arange(len(covariance)), keep)
    z = np.zeros((len(covariance), len(keep)))
    z[keep] = np.eye(len(keep))
    if len(others):
        z[others] = predicted(covariance, np.asarray(keep), others, ridge)
    return z


def ridge_floor(variances: Double) -> float:
    """What is added to each of ``variances`` (C,) beside a ridge, so that the matrix has an inverse; above zero."""
    return NUMERICS.shrinkage.least_ridge * max(float(variances.max(initial=0.0)), 1e-30)


def predicted(covariance: Double, keep: Index, others: Index, ridge: float) -> Double:
    """The rows of `prediction` for the channels ``others``."""
    inner, cross = covariance[np.ix_(keep, keep)], covariance[np.ix_(keep, others)]
    inner[np.diag_indices(len(keep))] += ridge * np.diag(inner) + ridge_floor(np.diag(covariance))
    try:
        return np.asarray(cho_solve(cho_factor(inner, lower=True, check_finite=False), cross, check_finite=False).T)
    except np.linalg.LinAlgError:  # rounding has made it indefinite
        return np.asarray(np.linalg.solve(inner, cross).T)
