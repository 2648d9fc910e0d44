"""Tests that a model loses no more than so much, from what it loses sample by sample.

Each p-value is of the hypothesis that more is lost: where at least ``drop`` is lost on average, it is at most ``alpha``
with a probability of at most ``alpha``, for any number of samples, which are drawn independently of each other and of
the models. Nothing is approximated by a normal distribution.
"""

from __future__ import annotations

import heapq
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaln, logsumexp
from scipy.stats import beta, binom

BETS = 2.0 ** (-np.arange(16) / 2)
"""Shares of the largest bet that nothing can ruin, which wealth is spread over. The best bet is about the mean that is
missing from ``drop`` over the variance; one of these lets wealth grow at 96% of its rate at least."""
NARROW = 2e-3
"""Relative width to which the largest probability is found; the upper end counts."""
REACH = 7.0
"""Standard deviations of the number of losses within which counts are looked at; all others count as they may."""
TINY = 1e-9
"""Differences of wealth that are rounding."""


def change_p(changes: int, samples: int, drop: float) -> float:
    """Of a share of at least ``drop`` (0 to 1) of changes, where ``changes`` of ``samples`` changed: the binomial
    probability of as few."""
    return float(binom.cdf(changes, samples, drop))


def change_bound(changes: int, samples: int, alpha: float) -> float:
    """The upper end of the one-sided interval of Clopper and Pearson (1934), from 0 to 1."""
    return 1.0 if changes == samples else float(beta.ppf(1 - alpha, changes + 1, samples - changes))


def betting_p(losses: NDArray[np.float64], drop: float, largest: float = 1.0) -> float:
    """Of a mean loss of at least ``drop``, where samples lose ``losses`` (N,), ``largest`` at most: one over the wealth
    of whoever bets on less being lost.

    A bet of b multiplies wealth by 1 + b (drop - loss) for each sample, which is 1 at most on average if as much is
    lost; so is the mean over several bets, and by Markov's inequality wealth of 1 / p has a probability of p at most
    (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024, section 4; with
    fixed bets, so that the order of samples does not matter).

    Raises
    ------
    ValueError: a sample loses more than ``largest``.
    """
    if drop >= largest:
        return 1.0  # as much cannot be lost, nor anything be learnt by a bet against it
    if losses.size and losses.max() > largest:
        raise ValueError(f"a sample loses {losses.max():g}, more than {largest:g}")
    bets = BETS[:, None] / (largest - drop)
    with np.errstate(divide="ignore"):
        grown = np.log(np.maximum(1 + bets * (drop - losses), 0.0)).sum(1)
    return float(min(1.0, math.exp(-min(logsumexp(grown) - math.log(len(BETS)), 700.0))))


def drop_p(losses: int, gains: int, samples: int, drop: float) -> float:
    """Of an accuracy that falls by at least ``drop`` (0 to 1): ``losses`` of ``samples`` were right before and are
    wrong after, ``gains`` the other way round.

    An exact test without conditions, as of Hsueh, Liu and Chen, "Unconditional exact tests for equivalence or
    noninferiority for paired binary endpoints" (Biometrics 57, 2001): counts are ordered by how much they speak for a
    smaller drop, here by the wealth of `betting_p`, and the probability of such as speak for it as strongly as these
    is taken at the worst of the shares of gains that nobody knows.

    Wealth falls with losses and rises with gains, and so the probability does with their shares. Hence the worst case
    has losses of just ``drop`` more than gains; and between two shares of gains the probability is at most that with
    the losses of the lower and the gains of the higher one: the maximum is bounded, not searched for.
    """
    return _worst(int(losses), int(gains), int(samples), float(drop), None)


def drop_rejected(losses: int, gains: int, samples: int, drop: float, alpha: float) -> bool:
    """Whether `drop_p` is at most ``alpha``; quicker where it is far from it."""
    return _worst(int(losses), int(gains), int(samples), float(drop), float(alpha)) <= alpha


def drop_bound(losses: int, gains: int, samples: int, alpha: float, limit: float, steps: int = 20) -> float:
    """The least of ``limit``'s ``steps`` equal parts down to which each is too large a drop at level ``alpha``, where
    ``limit`` itself is: see `drop_p`."""
    for k in range(steps - 1, 0, -1):
        if not drop_rejected(losses, gains, samples, limit * k / steps, alpha):
            return limit * (k + 1) / steps
    return limit / steps


@lru_cache(maxsize=4096)
def _worst(losses: int, gains: int, samples: int, drop: float, alpha: float | None) -> float:
    """`drop_p`; with ``alpha``, any number that is on the same side of it."""
    if not 0 < drop < 1 or not samples:
        return 1.0
    seen = float(_log_wealth(np.array([losses]), np.array([gains]), samples, drop)[0])
    most = math.exp(-max(seen, 0.0))
    if seen <= 0 or (alpha is not None and most <= alpha):
        return most
    needed = _gains_needed(seen - TINY, samples, drop)

    def at_most(low: float, high: float) -> float:
        """Probability, at most, where the share of gains lies in between."""
        return _probability(needed, samples, low + drop, high)

    ends = np.concatenate([[0.0], (1 - drop) / 2 * 2.0 ** np.arange(-12, 1)])
    reached = max(at_most(q, q) for q in ends)
    cells = [(-at_most(low, high), low, high) for low, high in zip(ends, ends[1:], strict=False)]
    heapq.heapify(cells)
    while True:
        bound, low, high = cells[0]
        if alpha is not None and reached > alpha:
            return reached
        if -bound <= (reached * (1 + NARROW) if alpha is None else max(alpha, reached * (1 + NARROW))):
            return min(-bound, most)
        middle = (low + high) / 2
        reached = max(reached, at_most(middle, middle))
        heapq.heapreplace(cells, (-at_most(low, middle), low, middle))
        heapq.heappush(cells, (-at_most(middle, high), middle, high))


def _log_wealth(losses: NDArray[np.int64], gains: NDArray[np.int64], samples: int, drop: float) -> NDArray[np.float64]:
    """Logarithm of the wealth by counts of losses and of gains, of one shape."""
    bets = (BETS / (1 - drop))[:, None]
    none = np.where(losses == 0, 0.0, losses)  # the largest bet is lost by one loss
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(losses == 0, 0.0, none * np.log(np.maximum(1 - bets * (1 - drop), 0.0)))
    grown = lost + gains * np.log1p(bets * (1 + drop)) + (samples - losses - gains) * np.log1p(bets * drop)
    found: NDArray[np.float64] = logsumexp(grown, 0) - math.log(len(BETS))
    return found


def _gains_needed(wealth: float, samples: int, drop: float) -> NDArray[np.int64]:
    """The fewest gains that make so much (as a logarithm), by the number of losses, as long as any do."""
    losses = np.arange(samples + 1)
    losses = losses[_log_wealth(losses, samples - losses, samples, drop) >= wealth]
    low, high = np.full(len(losses), -1), samples - losses  # too few, enough
    while (high - low > 1).any():
        middle = np.maximum((low + high) // 2, 0)
        enough = _log_wealth(losses, middle, samples, drop) >= wealth
        inside = high - low > 1
        low, high = np.where(inside & ~enough, middle, low), np.where(inside & enough, middle, high)
    return high


def _probability(needed: NDArray[np.int64], samples: int, loses: float, gains: float) -> float:
    """That there are at least as many gains as ``needed`` for the losses, each sample being lost with the probability
    ``loses`` and gained with ``gains``."""
    spread = REACH * math.sqrt(samples * loses * (1 - loses) + REACH**2)
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
    """The binomial probability of so many or more, by whole numbers of one shape."""
    inside = betainc(np.maximum(count, 1), np.maximum(samples - count + 1, 1), share)
    return np.where(np.less_equal(count, 0), 1.0, np.where(np.greater(count, samples), 0.0, inside))
