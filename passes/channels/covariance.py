"""Covariances (C, C) of channels, as matrices or as factors, and what they predict of removed channels.

n samples of more than n channels give S = F^T F + diag(d), for F (n, C): the samples about their means, scaled, and the
variance d that shrinkage adds. With E the diagonal part of S + its ridge at the kept channels K, those predict others O
by (Woodbury identity; Golub and Van Loan, Matrix Computations, 4th ed., sec. 2.1.4)

    Z = F_O^T M,    M = (I + F_K E^-1 F_K^T)^-1 F_K E^-1,

in n^2 C operations, and no matrix of all pairs of channels is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from passes.axes.scaling_matrix import LowRankUpdate, ScalingMatrix
from passes.graph.model import Array
from passes.numerics.shrinkage import oas_share, predicted, prediction, ridge_floor, shrunk, varying
from passes.numerics.tuning import NUMERICS, ShrinkageTuning
from passes.weights.stored_tensors import MAPPED, stored_array

DOUBLE = np.dtype(np.float64)


class Covariance(Protocol):
    """Covariance (C, C) of channels."""

    @property
    def variances(self) -> Array:
        """The diagonal (C,)."""

    def dense(self) -> Array:
        """The matrix (C, C) in float64."""

    def stored(self, dtype: np.dtype[np.floating[Any]] = DOUBLE) -> Covariance:
        """A copy as a matrix of type ``dtype``, in a mapped file where weights are stored."""

    def shrunk(self, count: float, factor: float, tuning: ShrinkageTuning = NUMERICS.shrinkage) -> Covariance:
        """Covariance shrunk toward a multiple of the identity, for ``count`` samples; see
        `passes.numerics.shrinkage.shrunk`."""

    def mixing(self, keep: Array, ridge: float) -> ScalingMatrix:
        """Z (C, K): see `passes.numerics.shrinkage.prediction`."""

    def predicted(self, keep: Array, others: Array, ridge: float) -> Array | LowRankUpdate:
        """The rows of `mixing` for the channels ``others``."""

    def misfit(self, keep: Array, others: Array) -> Callable[[Array | LowRankUpdate], float]:
        """A function of Z: E |x_O - Z x_K|^2 - E |x_O|^2 under this covariance."""


@dataclass(frozen=True)
class DenseCovariance:
    """A covariance as its ``matrix`` (C, C)."""

    matrix: Array

    @property
    def variances(self) -> Array:
        """The diagonal (C,)."""
        return np.array(np.diag(self.matrix), np.float64)

    def dense(self) -> Array:
        """The matrix in float64."""
        return np.asarray(self.matrix, np.float64)

    def stored(self, dtype: np.dtype[np.floating[Any]] = DOUBLE) -> DenseCovariance:
        """A copy of type ``dtype``, in a mapped file where weights are stored."""
        return DenseCovariance(stored_array(self.matrix.astype(dtype, copy=False)))

    def shrunk(self, count: float, factor: float, tuning: ShrinkageTuning = NUMERICS.shrinkage) -> DenseCovariance:
        """Covariance shrunk toward a multiple of the identity, for ``count`` samples; see
        `passes.numerics.shrinkage.shrunk`."""
        return DenseCovariance(shrunk(self.matrix, count, factor, tuning))

    def mixing(self, keep: Array, ridge: float) -> sparse.csr_array:
        """Z (C, K): see `passes.numerics.shrinkage.prediction`."""
        found = sparse.csr_array(prediction(self.dense(), np.asarray(keep, np.int64), ridge))
        MAPPED.note_read(self.matrix.nbytes)
        found.data, found.indices = stored_array(found.data), stored_array(found.indices)
        return found

    def predicted(self, keep: Array, others: Array, ridge: float) -> Array:
        """The rows of `mixing` for the channels ``others``."""
        return predicted(self.matrix, keep, others, ridge)

    def misfit(self, keep: Array, others: Array) -> Callable[[Array | LowRankUpdate], float]:
        """A function of Z: E |x_O - Z x_K|^2 - E |x_O|^2 under this covariance."""
        cross, inner = self.matrix[np.ix_(others, keep)], self.matrix[np.ix_(keep, keep)]

        def lost(z: Array | LowRankUpdate) -> float:
            rows = _array(z)
            return float(np.sum(rows * (rows @ inner)) - 2 * np.sum(rows * cross))

        return lost


@dataclass(frozen=True)
class LowRankCovariance:
    """F^T F + diag(d) with ``factor`` F (n, C) and ``own`` d (C,)."""

    factor: Array
    own: Array

    @classmethod
    def of_rows(cls, rows: Array, mean: Array, count: float) -> LowRankCovariance:
        """Covariance of samples ``rows`` (n, C) about ``mean`` (C,): their products divided by ``count``."""
        return cls((rows - mean) / np.sqrt(count), np.zeros(rows.shape[1]))

    @property
    def variances(self) -> Array:
        """The diagonal (C,)."""
        return np.asarray(np.einsum("nc,nc->c", self.factor, self.factor) + self.own)

    def stored(self, dtype: np.dtype[np.floating[Any]] = DOUBLE) -> LowRankCovariance:
        """A copy with its factor in a mapped file, where weights are stored. The type stays."""
        return LowRankCovariance(stored_array(self.factor), self.own)

    def dense(self) -> Array:
        """The matrix (C, C)."""
        found = self.factor.T @ self.factor
        found[np.diag_indices(len(found))] += self.own
        return np.asarray(found)

    def shrunk(self, count: float, factor: float, tuning: ShrinkageTuning = NUMERICS.shrinkage) -> LowRankCovariance:
        """Covariance shrunk toward a multiple of the identity, for ``count`` samples; see
        `passes.numerics.shrinkage.shrunk`. This covariance must have no diagonal part."""
        assert not self.own.any()
        variances = self.variances
        alive = varying(variances, tuning)
        if not alive.any():
            return self
        products = self.factor @ self.factor.T  # channels that do not vary add next to nothing
        trace, square, size = float(variances[alive].sum()), float(np.sum(products * products)), int(alive.sum())
        share = min(1.0, factor * oas_share(trace, square, size, count))
        return LowRankCovariance(np.sqrt(1 - share) * self.factor, np.where(alive, share * trace / size, 0.0))

    def mixing(self, keep: Array, ridge: float) -> LowRankUpdate:
        """Z (C, K): see `passes.numerics.shrinkage.prediction`."""
        size, kept = len(self.own), np.arange(len(keep))
        selection = sparse.csr_array((np.ones(len(keep)), (keep, kept)), shape=(size, len(keep)))
        left = self.factor.T.copy()
        left[keep] = 0.0
        return LowRankUpdate(selection, left, self._response(keep, ridge))

    def predicted(self, keep: Array, others: Array, ridge: float) -> LowRankUpdate:
        """The rows of `mixing` for the channels ``others``."""
        nothing = sparse.csr_array((len(others), len(keep)))
        return LowRankUpdate(nothing, self.factor.T[others], self._response(keep, ridge))

    def misfit(self, keep: Array, others: Array) -> Callable[[Array | LowRankUpdate], float]:
        """A function of Z: E |x_O - Z x_K|^2 - E |x_O|^2 under this covariance."""
        kept, wanted = self.factor.T[keep], self.factor.T[others]

        def lost(z: Array | LowRankUpdate) -> float:
            seen = np.asarray(z @ kept)
            own = float(np.sum(_array(z) ** 2 @ self.own[keep])) if self.own.any() else 0.0
            return float(np.sum(seen * seen) - 2 * np.sum(seen * wanted)) + own

        return lost

    def _response(self, keep: Array, ridge: float) -> Array:
        """M (n, K)."""
        variances = self.variances
        kept = self.factor[:, keep]
        scaled = kept / (self.own[keep] + ridge * variances[keep] + ridge_floor(variances))
        inner = kept @ scaled.T
        inner[np.diag_indices(len(inner))] += 1.0
        return np.asarray(cho_solve(cho_factor(inner, lower=True), scaled))


def _array(z: Array | LowRankUpdate) -> Array:
    return z.toarray() if isinstance(z, LowRankUpdate) else z


def summed(parts: Sequence[Covariance]) -> Covariance:
    """The sum of covariances of the same channels."""
    if len(parts) == 1:
        return parts[0]
    low = [part for part in parts if isinstance(part, LowRankCovariance)]
    if len(low) == len(parts):
        return LowRankCovariance(np.concatenate([part.factor for part in low]), np.sum([part.own for part in low], 0))
    return DenseCovariance(np.sum([part.dense() for part in parts], axis=0))


def best_factor(
    believed: Callable[[float], Covariance],
    unseen: Covariance,
    ridge: float,
    tuning: ShrinkageTuning = NUMERICS.shrinkage,
) -> float:
    """The shrinkage factor of `ShrinkageTuning.factors` with which the half of the channels with the most variance
    predicts the others best on unseen samples. ``believed``: factor -> covariance of the samples that were seen.
    ``unseen``: covariance of the other samples about the same means."""
    order = np.argsort(-believed(1.0).variances, kind="stable")
    keep, others = np.sort(order[: (len(order) + 1) // 2]), np.sort(order[(len(order) + 1) // 2 :])
    if not len(others):
        return 1.0
    lost = unseen.misfit(keep, others)
    nearest = sorted(tuning.factors, key=lambda f: abs(np.log(f)))  # of equal ones that nearest to 1
    return min(nearest, key=lambda factor: lost(believed(factor).predicted(keep, others, ridge)))
