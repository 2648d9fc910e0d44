"""Which channels stay: criteria on the weights of their producers, deterministic; ties go to the lower index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from passes.graph.model import Array
from passes.numerics import elect, elect_kernels, median_distances, row_norms
from passes.signature import Signature

Criterion = Callable[[Signature, int], Array]


def _weights(sign: Signature) -> Array:
    """Rows to judge by (Neuron Merging, sec. 4): filters as trained; in fully connected layers with the bias."""
    return sign.full if sign.dense else sign.trained


def _largest(scores: Array, keep: int) -> Array:
    return np.sort(np.argsort(-scores, kind="stable")[:keep])


def _l1(sign: Signature, keep: int) -> Array:
    """Largest l1 norm (Li et al. 2017)."""
    return _largest(row_norms(_weights(sign), 1), keep)


def _l2(sign: Signature, keep: int) -> Array:
    """Largest l2 norm."""
    return _largest(row_norms(_weights(sign), 2), keep)


def _gm(sign: Signature, keep: int) -> Array:
    """Farthest from the geometric median (FPGM, He et al. 2019)."""
    return _largest(median_distances(_weights(sign)), keep)


def _reprune(sign: Signature, keep: int) -> Array:
    """One representative of each Ward cluster of whole filters, bias included (REPrune, Park et al. 2020)."""
    return elect(sign.full, keep)


def _reprune_kernel(sign: Signature, keep: int) -> Array:
    """Greedy coverage of Ward clusters of kernels (REPrune, arXiv 2402.17862), over all producers' input channels."""
    widest = max(f.shape[2] for f in sign.filters)
    padded = [np.pad(f, ((0, 0), (0, 0), (0, widest - f.shape[2]))) for f in sign.filters]
    return elect_kernels(np.concatenate(padded, axis=1), keep)


CRITERIA: dict[str, Criterion] = {
    "l1": _l1,
    "l2": _l2,
    "gm": _gm,
    "reprune": _reprune,
    "reprune-kernel": _reprune_kernel,
}
"""Criteria by name."""


def select(sign: Signature, candidates: Array, keep: int, criterion: str) -> Array:
    """The ``keep`` of ``candidates`` (ascending channel indices) that stay, ascending."""
    if keep >= len(candidates):
        return candidates
    return candidates[CRITERIA[criterion](sign[candidates], keep)]
