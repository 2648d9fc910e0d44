"""Selects the channels from which the others are reconstructed best, by column-subset selection.

S is the covariance of the channels, and G := W^T W of the readers. Choosing channel c explains H_cc / S_cc of what the
readers see, H = S G S. After the choice, S and H become

    v = S_c / sqrt(S_cc),  h = H_c / sqrt(S_cc):    S - v v^T,    H - v h^T - h v^T + v v^T H_cc / S_cc
"""

import numpy as np

from .arrays import Double, Index
from .jit import serial
from .tuning import NUMERICS, SubsetTuning


@serial
def _greedy(
    cov: Double, seen: Double, candidates: Index, chosen: Index, gains: Double, delayed: int, explained: float
) -> None:
    """Chooses among ``candidates`` (overwritten), one by one, into ``chosen`` (K,) and ``gains``. -1 follows where no
    candidate adds anything. ``cov`` and ``seen`` (C, C) are overwritten.

    The downdates of ``delayed`` choices are collected. The next candidate's row alone is brought up to date. The
    matrices, which are larger than a cache, are then read once for all collected downdates. A channel with at most the
    share ``explained`` of its variance left is not chosen.
    """
    size = cov.shape[0]
    start, variance, worth = np.empty(size), np.empty(size), np.empty(size)
    for c in range(size):
        start[c] = variance[c] = cov[c, c]
        worth[c] = seen[c, c]
    v, h, ratio = np.empty((delayed, size)), np.empty((delayed, size)), np.empty(delayed)
    waiting = 0
    for k in range(chosen.shape[0]):
        best, at = -1.0, -1
        for i in range(candidates.shape[0]):
            c = candidates[i]
            if c < 0 or variance[c] <= explained * start[c] or variance[c] <= 0.0:
                continue
            if worth[c] / variance[c] > best:
                best, at = worth[c] / variance[c], i
        chosen[k] = candidates[at] if at >= 0 else -1
        gains[k] = max(best, 0.0)
        if at < 0:
            continue
        pick, candidates[at] = candidates[at], -1
        own, read = cov[pick].copy(), seen[pick].copy()
        for j in range(waiting):
            x, y = v[j, pick], h[j, pick]
            for b in range(size):
                own[b] -= x * v[j, b]
                read[b] += (ratio[j] * x - y) * v[j, b] - x * h[j, b]
        root, r = np.sqrt(variance[pick]), worth[pick] / variance[pick]
        for b in range(size):
            v[waiting, b], h[waiting, b] = own[b] / root, read[b] / root
            variance[b] -= v[waiting, b] ** 2
            worth[b] += r * v[waiting, b] ** 2 - 2 * v[waiting, b] * h[waiting, b]
        ratio[waiting] = r
        waiting += 1
        if waiting < delayed:
            continue
        for a in range(size):
            if variance[a] <= explained * start[a]:  # its row is not read again
                continue
            for j in range(waiting):
                x, y = v[j, a], h[j, a]
                for b in range(size):
                    cov[a, b] -= x * v[j, b]
                    seen[a, b] += (ratio[j] * x - y) * v[j, b] - x * h[j, b]
        waiting = 0


def choose_alone(variance: Double, weight: Double, candidates: Index) -> tuple[Index, Double]:
    """Channels in the order of their variance as the readers see it, and the share of its sum that the channels so far
    have: what `choose_columns` gives for many channels.

    ``variance`` (C,) of the channels, ``weight`` (C,) the squared norm of the weights that read each. Returns the
    ``candidates`` in order, and the shares.
    """
    power = variance * weight
    chosen = np.asarray(candidates, np.int64)[np.argsort(-power[candidates], kind="stable")]
    return chosen, np.cumsum(power[chosen]) / max(float(power.sum()), 1e-300)


def choose_columns(
    covariance: Double, weight: Double, candidates: Index, keep: int, tuning: SubsetTuning = NUMERICS.subset
) -> tuple[Index, Double]:
    """Channels picked one by one, each the one that explains most of what the readers see, and what they explain.

    ``covariance`` (C, C) of the channels; ``weight`` (C, C) is the readers' W^T W; the readers see
    tr(W cov W^T). Returns ``keep`` of ``candidates`` in the order of choice, and for each the share of that trace that
    the choice so far explains (keep,). Greedy column-subset selection (Farahat et al., ICDM 2011), with downdates
    instead of new projections. Of more than
    `SubsetTuning.most_greedy` those with the largest variance, as the readers see it, are chosen.
    """
    candidates = np.asarray(candidates, np.int64)
    if len(covariance) > tuning.most_greedy:
        order, explained = choose_alone(np.diag(covariance), np.diag(weight), candidates)
        return order[:keep], explained[:keep]
    cov = np.array(covariance, np.float64)
    seen = np.ascontiguousarray(cov @ weight @ cov)
    total = float(np.sum(weight * cov))
    chosen, gains = np.empty(keep, np.int64), np.zeros(keep)
    _greedy(cov, seen, candidates.copy(), chosen, gains, tuning.delayed_downdates, tuning.explained)
    done = int(np.sum(chosen >= 0))  # nothing is left to explain: take the first remaining ones
    chosen[done:] = np.setdiff1d(candidates, chosen[:done])[: keep - done]
    return chosen, np.cumsum(gains) / max(total, 1e-300)
