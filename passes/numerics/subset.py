"""Selects the channels from which the others are reconstructed best, by column-subset selection.

S is the covariance of the channels, and G := W^T W of the readers. Choosing channel c explains H_cc / S_cc of what the
readers see, H = S G S. After the choice, S and H become

    v = S_c / sqrt(S_cc),  h = H_c / sqrt(S_cc):    S - v v^T,    H - v h^T - h v^T + v v^T H_cc / S_cc
"""

import numpy as np
from scipy.linalg import blas

from .arrays import Double, Index
from .jit import serial
from .threads import threads_for
from .tuning import NUMERICS, SubsetTuning


@serial
def _choose_some(
    cov: Double,
    seen: Double,
    variance: Double,
    worth: Double,
    least: Double,
    candidates: Index,
    chosen: Index,
    gains: Double,
    v: Double,
    h: Double,
    ratio: Double,
) -> None:
    """Chooses among ``candidates``, one by one, into ``chosen`` (K,) and ``gains``. The rest of these stays as it is
    where no candidate adds anything, or has more than its ``least`` variance (C,) left. Chosen candidates become -1.

    ``variance`` and ``worth`` (C,), the diagonals of ``cov`` and ``seen`` (C, C), are brought up to date. The matrices
    are not, but for the rows of the choices: their downdates are returned in ``v`` and ``h`` (K, C) and ``ratio`` (K,).
    """
    size = cov.shape[0]
    for k in range(chosen.shape[0]):
        best, at = -1.0, -1
        for i in range(candidates.shape[0]):
            c = candidates[i]
            if c < 0 or variance[c] <= least[c]:
                continue
            if worth[c] / variance[c] > best:
                best, at = worth[c] / variance[c], i
        if at < 0:
            return
        chosen[k], gains[k] = candidates[at], max(best, 0.0)
        pick, candidates[at] = candidates[at], -1
        own, read = cov[pick].copy(), seen[pick].copy()
        for j in range(k):
            x, y = v[j, pick], h[j, pick]
            for b in range(size):
                own[b] -= x * v[j, b]
                read[b] += (ratio[j] * x - y) * v[j, b] - x * h[j, b]
        root, r = np.sqrt(variance[pick]), worth[pick] / variance[pick]
        for b in range(size):
            v[k, b], h[k, b] = own[b] / root, read[b] / root
            variance[b] -= v[k, b] ** 2
            worth[b] += r * v[k, b] ** 2 - 2 * v[k, b] * h[k, b]
        ratio[k] = r


def _add_product(matrix: Double, right: Double, left: Double) -> None:
    """``matrix`` += left^T right, in place."""
    blas.dgemm(1.0, right.T, left.T, 1.0, matrix.T, trans_b=True, overwrite_c=True)  # arrays in Fortran's order


def _choose(cov: Double, seen: Double, candidates: Index, chosen: Index, gains: Double, tuning: SubsetTuning) -> None:
    """Choose channels one by one by `_choose_some` until ``chosen`` is full or none is left. ``chosen`` is -1 at first,
    ``gains`` 0. ``cov`` and ``seen``, in C's order, and ``candidates`` are overwritten.

    The matrices are larger than a cache: they are read once for the downdates of several choices.
    """
    variance, worth = np.diag(cov).copy(), np.diag(seen).copy()
    least = np.maximum(tuning.explained * variance, 0.0)
    for start in range(0, len(chosen), tuning.delayed_downdates):
        some = chosen[start : start + tuning.delayed_downdates]
        v, h, ratio = np.empty((len(some), len(cov))), np.empty((len(some), len(cov))), np.empty(len(some))
        part = gains[start : start + len(some)]
        _choose_some(cov, seen, variance, worth, least, candidates, some, part, v, h, ratio)
        if some[-1] < 0:
            return
        if start + len(some) < len(chosen):
            _add_product(cov, v, -v)
            _add_product(seen, v, ratio[:, None] * v - h)
            _add_product(seen, h, -v)


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
    cov = np.array(covariance, np.float64, order="C")  # `_add_product` works in place
    seen = np.ascontiguousarray(cov @ weight @ cov)
    total = float(np.sum(weight * cov))
    chosen, gains = np.full(keep, -1), np.zeros(keep)
    with threads_for(len(cov)):
        _choose(cov, seen, candidates.copy(), chosen, gains, tuning)
    done = int(np.sum(chosen >= 0))  # nothing is left to explain: take the first remaining ones
    chosen[done:] = np.setdiff1d(candidates, chosen[:done])[: keep - done]
    return chosen, np.cumsum(gains) / max(total, 1e-300)
