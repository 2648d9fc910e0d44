"""Selects channels to keep by criteria on their producers' weights. Ties go to the lower index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from passes.channels.weights import Signature
from passes.graph.model import Array
from passes.numerics.norms import median_distances, row_norms
from passes.numerics.reprune import elect, elect_kernels

Criterion = Callable[[Signature, Array, int], Array]
"""(signature, candidates, keep) -> positions of the candidates that stay."""


def _largest(scores: Array, keep: int) -> Array:
    return np.argsort(-scores, kind="stable")[:keep]


def _norms(sign: Signature, order: Literal[1, 2]) -> Array:
    """Norms of filters as trained; in fully connected layers with the bias (Neuron Merging, sec. 4)."""
    return row_norms(sign.full, order) if sign.dense else sign.trained_norms(order)


def _l1(sign: Signature, candidates: Array, keep: int) -> Array:
    """Largest l1 norm (Li et al. 2017)."""
    return _largest(_norms(sign, 1)[candidates], keep)


def _l2(sign: Signature, candidates: Array, keep: int) -> Array:
    """Largest l2 norm."""
    return _largest(_norms(sign, 2)[candidates], keep)


def _gm(sign: Signature, candidates: Array, keep: int) -> Array:
    """Farthest from the geometric median (FPGM, He et al. 2019)."""
    return _largest(median_distances((sign.full.values if sign.dense else sign.trained)[candidates]), keep)


def _reprune(sign: Signature, candidates: Array, keep: int) -> Array:
    """One representative of each Ward cluster of whole filters, bias included (REPrune, Park et al. 2020)."""
    return elect(sign.full.values[candidates], keep)


def _reprune_kernel(sign: Signature, candidates: Array, keep: int) -> Array:
    """Greedy coverage of Ward clusters of kernels (REPrune, arXiv 2402.17862), over all producers' input channels."""
    filters = [p.trained[candidates] for p in sign.producers]
    widest = max(f.shape[2] for f in filters)
    padded = [np.pad(f, ((0, 0), (0, 0), (0, widest - f.shape[2]))) for f in filters]
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
    return np.sort(candidates[CRITERIA[criterion](sign, candidates, keep)])
