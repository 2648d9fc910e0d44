"""Scaling matrices Z (C, K), with which the weights of consumers are multiplied: W Z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from passes.graph.model import Array

if TYPE_CHECKING:  # `inspect` should not wait for scipy
    from scipy import sparse


@dataclass(frozen=True)
class LowRankUpdate:
    """Z = ``base`` + ``left`` ``right``, for (C, K) = (C, r) (r, K) of a small rank r."""

    base: sparse.csr_array
    left: Array
    right: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(C, K)."""
        return len(self.left), self.right.shape[1]

    def __matmul__(self, other: Array) -> Array:
        return np.asarray(self.base @ other + self.left @ (self.right @ other))

    def product(self, values: Array) -> Array:
        """The contraction of the middle axis of ``values`` (A, C, B) with ``left`` ``right``, (A, K, B), in their own
        type."""
        left, right = (factor.astype(values.dtype, copy=False) for factor in (self.left, self.right))
        if values.shape[2] == 1:  # one product, not A of them
            return np.asarray(((values[:, :, 0] @ left) @ right)[:, :, None])
        return np.asarray(np.matmul(right.T, np.matmul(left.T, values)))

    def toarray(self) -> Array:
        """Z as an array."""
        return np.asarray(self.base.toarray() + self.left @ self.right)


ScalingMatrix: TypeAlias = "sparse.csr_array | LowRankUpdate"
"""Z (C, K) of a merge, whose rows have an entry each, or of a prediction."""
