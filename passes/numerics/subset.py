"""Column-subset selection: which channels let the others, as their readers see them, be reconstructed best."""

import numpy as np

from .arrays import Double, Index
from .jit import serial

LARGE = 2048
"""Channels beyond which each is judged alone: the greedy choice takes C^3 operations."""


@serial
def _greedy(covariance: Double, seen: Double, candidates: Index, chosen: Index, left: Double) -> None:
    """``covariance`` (C, C) and ``seen`` (C, T) are overwritten with what the chosen channels leave unexplained."""
    channels, targets = seen.shape
    start = np.empty(channels)
    for c in range(channels):
        start[c] = covariance[c, c]
    total = 0.0
    for k in range(chosen.shape[0]):
        best, at = -1.0, -1
        for i in range(candidates.shape[0]):
            c = candidates[i]
            # A channel that the chosen ones explain but for rounding has nothing to add.
            if c < 0 or covariance[c, c] <= 1e-9 * start[c] or covariance[c, c] <= 0.0:
                continue
            gain = 0.0
            for t in range(targets):
                gain += seen[c, t] * seen[c, t]
            gain /= covariance[c, c]
            if gain > best:
                best, at = gain, i
        if at < 0:  # nothing is left to explain: the first ones left do
            for i in range(candidates.shape[0]):
                if candidates[i] >= 0:
                    at = i
                    break
            chosen[k] = candidates[at]
            candidates[at] = -1
            left[k] = total
            continue
        pick = candidates[at]
        candidates[at] = -1
        chosen[k] = pick
        pivot = covariance[pick, pick]
        column = covariance[:, pick].copy()
        watched = seen[pick].copy()
        for a in range(channels):
            factor = column[a] / pivot
            for b in range(channels):
                covariance[a, b] -= factor * column[b]
            for t in range(targets):
                seen[a, t] -= factor * watched[t]
        total += best
        left[k] = total


def choose_columns(covariance: Double, weight: Double, candidates: Index, keep: int) -> tuple[Index, Double]:
    """Channels picked one by one, each the one that explains most of what the readers see, and what they explain.

    ``covariance`` (C, C) of the channels; ``weight`` (C, C) is the readers' W^T W; the readers see
    tr(W cov W^T). Returns ``keep`` of ``candidates`` in the order of choice, and for each the share of that trace that
    the choice so far explains (keep,). Greedy column-subset selection (Farahat et al., ICDM 2011), with rank-one
    downdates instead of new projections. Of more than `LARGE` channels those with the largest variance, as the readers
    see it, are chosen.
    """
    if len(covariance) > LARGE:
        power = np.diag(covariance) * np.diag(weight)
        chosen = candidates[np.argsort(-power[candidates], kind="stable")[:keep]]
        return chosen.astype(np.int64), np.cumsum(power[chosen]) / max(float(power.sum()), 1e-300)
    values, vectors = np.linalg.eigh(weight)
    strong = values > 1e-10 * max(float(values[-1]), 1e-300)
    root = (vectors[:, strong] * np.sqrt(values[strong])).T  # (T, C), root^T root = weight
    seen = np.ascontiguousarray((root @ covariance).T)
    total = float(np.sum(root.T * seen))
    chosen, left = np.empty(keep, np.int64), np.empty(keep)
    _greedy(np.array(covariance, np.float64), seen, np.array(candidates, np.int64), chosen, left)
    return chosen, left / max(total, 1e-300)
