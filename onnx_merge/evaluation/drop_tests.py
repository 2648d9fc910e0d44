"""Statistical tests that a model's loss is below a limit, from its losses on single samples.

The null hypothesis of each p-value is that at least ``drop`` is lost on average. Under it, the p-value is at most
``alpha`` with a probability of at most ``alpha``, for any number of samples. Samples must be drawn independently of
each other and of the models. No normal approximation is used.
"""

from __future__ import annotations

import heapq
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betainc, betaincinv, gammaln, logsumexp

from onnx_merge.tuning.evaluation import GUARANTEES

BETS = 2.0 ** (-np.arange(GUARANTEES.bets) / 2)
"""Bets that the initial wealth is divided among, as shares of the largest bet that cannot lose everything.

The best bet is about (``drop`` - mean loss) / variance. With one of these bets wealth grows at 96% of the best rate
or faster.
"""
TINY = 1e-9
"""Differences of wealth below this are rounding errors."""


def change_p(changes: int, samples: int, drop: float) -> float:
    """p-value of the hypothesis that a share of at least ``drop`` (0 to 1) changes, if ``changes`` of ``samples``
    changed: the binomial probability of so few changes."""
    return float(bdtr(changes, samples, drop))


def change_bound(changes: int, samples: int, alpha: float) -> float:
    """Return the upper end of the one-sided interval of Clopper and Pearson (1934) for the share of changes, 0 to 1."""
    return 1.0 if changes == samples else float(betaincinv(changes + 1, samples - changes, 1 - alpha))


def betting_p(losses: NDArray[np.float64], drop: float, largest: float = 1.0) -> float:
    """p-value of the hypothesis that the mean loss is at least ``drop``, from the samples' losses (N,).

    ``largest``: upper bound of a sample's loss. The p-value is 1 / wealth of a gambler who bets that less is lost. A
    bet of b multiplies the wealth by 1 + b (drop - loss) for each sample. Under the hypothesis, the expectation of that
    factor is at most 1, and so is that of the mean over several bets. By Markov's inequality, a wealth of 1 / p then
    has a probability of at most p (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    JRSS B 2024, section 4). The bets are fixed, so that the order of the samples does not matter.

    Raises
    ------
    ValueError: a sample loses more than ``largest``.
    """
    if drop >= largest:
        return 1.0  # so large a drop is impossible, and a bet against it has no power
    if losses.size and losses.max() > largest:
        raise ValueError(f"a sample loses {losses.max():g}, more than {largest:g}")
    bets = BETS[:, None] / (largest - drop)
    with np.errstate(divide="ignore"):
        grown = np.log(np.maximum(1 + bets * (drop - losses), 0.0)).sum(1)
    return float(min(1.0, math.exp(-min(logsumexp(grown) - math.log(len(BETS)), 700.0))))


def drop_p(losses: int, gains: int, samples: int, drop: float) -> float:
    """p-value of the hypothesis that the accuracy falls by at least ``drop`` (0 to 1).

    ``losses`` of ``samples`` were right before and are wrong after; ``gains`` the other way round. The test is exact
    and unconditional, after Hsueh, Liu and Chen, "Unconditional exact tests for equivalence or noninferiority for
    paired binary endpoints" (Biometrics 57, 2001). Pairs of counts are ordered by their evidence for a smaller drop,
    here the wealth of `betting_p`. The p-value is the probability of evidence at least as strong as the observed one.
    The share of gains is unknown; the worst case is taken.

    Wealth falls with losses and rises with gains, and so does the probability with their shares. Hence in the worst
    case the share of losses exceeds that of gains by exactly ``drop``. For all shares of gains in an interval, the
    probability is at most the one with the losses of its lower end and the gains of its upper end. So the maximum is
    bounded, not searched for.
    """
    return _worst(int(losses), int(gains), int(samples), float(drop), None)


def drop_rejected(losses: int, gains: int, samples: int, drop: float, alpha: float) -> bool:
    """Whether `drop_p` is at most ``alpha``; faster if the two are far apart."""
    return _worst(int(losses), int(gains), int(samples), float(drop), float(alpha)) <= alpha


def drop_bound(losses: int, gains: int, samples: int, alpha: float, limit: float, steps: int) -> float:
    """Return the smallest upper bound of the drop at level ``alpha``, as a multiple of ``limit`` / ``steps``.

    ``limit`` itself has to be rejected as a drop at this level; so are all multiples down to the bound. See `drop_p`.
    """
    for k in range(steps - 1, 0, -1):
        if not drop_rejected(losses, gains, samples, limit * k / steps, alpha):
            return limit * (k + 1) / steps
    return limit / steps


@lru_cache(maxsize=4096)
def _worst(losses: int, gains: int, samples: int, drop: float, alpha: float | None) -> float:
    """Return `drop_p`. With ``alpha``, any number on the same side of ``alpha`` may be returned."""
    if not 0 < drop < 1 or not samples:
        return 1.0
    seen = float(_log_wealth(np.array([losses]), np.array([gains]), samples, drop)[0])
    most = math.exp(-max(seen, 0.0))
    if seen <= 0 or (alpha is not None and most <= alpha):
        return most
    needed = _gains_needed(seen - TINY, samples, drop)

    def at_most(low: float, high: float) -> float:
        """Return an upper bound of the probability for shares of gains between ``low`` and ``high``."""
        return _probability(needed, samples, low + drop, high)

    ends = np.concatenate([[0.0], (1 - drop) / 2 * 2.0 ** np.arange(-12, 1)])
    reached = max(at_most(q, q) for q in ends)
    cells = [(-at_most(low, high), low, high) for low, high in zip(ends, ends[1:], strict=False)]
    heapq.heapify(cells)
    while True:
        bound, low, high = cells[0]
        if alpha is not None and reached > alpha:
            return reached
        near = reached * (1 + GUARANTEES.probability_accuracy)
        if -bound <= (near if alpha is None else max(alpha, near)):
            return min(-bound, most)
        middle = (low + high) / 2
        reached = max(reached, at_most(middle, middle))
        heapq.heapreplace(cells, (-at_most(low, middle), low, middle))
        heapq.heappush(cells, (-at_most(middle, high), middle, high))


def _log_wealth(losses: NDArray[np.int64], gains: NDArray[np.int64], samples: int, drop: float) -> NDArray[np.float64]:
    """Return the logarithm of the wealth for arrays of losses and of gains of one shape."""
    bets = (BETS / (1 - drop))[:, None]
    none = np.where(losses == 0, 0.0, losses)  # with the largest bet, a single loss loses everything
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(losses == 0, 0.0, none * np.log(np.maximum(1 - bets * (1 - drop), 0.0)))
    grown = lost + gains * np.log1p(bets * (1 + drop)) + (samples - losses - gains) * np.log1p(bets * drop)
    found: NDArray[np.float64] = logsumexp(grown, 0) - math.log(len(BETS))
    return found


def _gains_needed(wealth: float, samples: int, drop: float) -> NDArray[np.int64]:
    """Return, for each number of losses, the fewest gains that reach the (log) ``wealth``, while any number does."""
    losses = np.arange(samples + 1)
    losses = losses[_log_wealth(losses, samples - losses, samples, drop) >= wealth]
    low, high = np.full(len(losses), -1), samples - losses  # too few, enough
    while (high - low > 1).any():
        middle = np.maximum((low + high) // 2, 0)
        sufficient = _log_wealth(losses, middle, samples, drop) >= wealth
        inside = high - low > 1
        low, high = np.where(inside & ~sufficient, middle, low), np.where(inside & sufficient, middle, high)
    return high


def _probability(needed: NDArray[np.int64], samples: int, loses: float, gains: float) -> float:
    """Probability that the gains reach ``needed`` for the number of losses.

    Each sample is lost with probability ``loses`` and gained with probability ``gains``.
    """
    spread = GUARANTEES.deviations * math.sqrt(samples * loses * (1 - loses) + GUARANTEES.deviations**2)
    first, last = (int(min(max(samples * loses + side * spread, 0), len(needed))) for side in (-1, 1))
    losses = np.arange(first, last)
    share = min(1.0, gains / (1 - loses)) if loses < 1 else 0.0
    weights = np.exp(
        gammaln(samples + 1)
        - gammaln(losses + 1)
        - gammaln(samples - losses + 1)
        + losses * math.log(loses)
        + (samples - losses) * math.log1p(-loses)
    )
    outside = 1 - _at_least(first, samples, loses) + (_at_least(last, samples, loses) if last < len(needed) else 0.0)
    return float(np.dot(weights, _at_least(needed[first:last], samples - losses, share)) + outside)


def _at_least(count: Any, samples: Any, share: float) -> Any:
    """Return the binomial probability of at least ``count`` of ``samples``; integers or arrays of one shape."""
    inside = betainc(np.maximum(count, 1), np.maximum(samples - count + 1, 1), share)
    return np.where(np.less_equal(count, 0), 1.0, np.where(np.greater(count, samples), 0.0, inside))
