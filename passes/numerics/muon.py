"""Muon: steps of orthogonalised momentum for matrices, and of Adam for all other arrays.

A gradient of a layer's weights has a few large singular values, and a step along it leaves all other directions
behind. The nearest semi-orthogonal matrix has the same singular vectors, and all singular values are 1 (Jordan, Muon:
an optimizer for hidden layers in neural networks, 2024; Bernstein and Newhouse, Old optimizer, new norm, 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adam import Adam
from .tuning import NUMERICS, AdamTuning, MuonTuning

Array = NDArray[Any]


@dataclass(frozen=True)
class MatrixForm:
    """How weights are matrices: ``axis`` is that of the outputs, all other axes together are the inputs. The first axis
    of the weights is cut into ``groups``, with a matrix each."""

    axis: int
    groups: int = 1

    def sizes(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The smaller and the larger side of a matrix of weights of this shape."""
        grouped = (self.groups, shape[0] // self.groups, *shape[1:])
        rows = grouped[1 + self.axis]
        columns = int(np.prod(grouped[1:])) // max(1, rows)
        return min(rows, columns), max(rows, columns)

    def cost(self, shape: tuple[int, ...]) -> float:
        """Multiply-adds of `orthogonalised`, about: two products of the matrix, and the eigenvectors (Golub and Van
        Loan, Matrix computations, 8.3)."""
        small, large = self.sizes(shape)
        return float(self.groups * small**2 * (2 * large + 9 * small))

    def orthogonalised(self, weights: Array, smallest: float) -> Array:
        """The nearest semi-orthogonal matrices, of the shape of ``weights``, times the root of the larger side: the
        root mean square of the elements is 1. For ``smallest`` see `orthogonal_factor`."""
        grouped = weights.reshape(self.groups, -1, *weights.shape[1:])
        moved = np.moveaxis(grouped, 1 + self.axis, 1) if self.axis else grouped
        found = orthogonal_factor(moved.reshape(*moved.shape[:2], -1), smallest)
        found *= np.sqrt(max(found.shape[1:]))
        spread = found.reshape(moved.shape)
        return (np.moveaxis(spread, 1, 1 + self.axis) if self.axis else spread).reshape(weights.shape)


class Muon(Adam):
    """`Adam`, but for the matrices ``forms``: name -> how the array is one.

    For ``values``, ``scales``, ``rate`` and ``steps`` see `Adam`. Matrices are orthogonalised in units of their scales.
    """

    def __init__(
        self,
        values: dict[str, Array],
        scales: Mapping[str, Array],
        rate: float,
        steps: int,
        forms: Mapping[str, MatrixForm],
        tuning: MuonTuning = NUMERICS.muon,
        adam: AdamTuning = NUMERICS.adam,
    ) -> None:
        super().__init__(values, scales, rate, steps, adam)
        self._forms, self._muon = forms, tuning

    def _direction(self, name: str, gradient: Array) -> Array:
        if name not in self._forms:
            return super()._direction(name, gradient)
        share, mean = 1.0 - self._muon.decay, self._mean[name]
        scaled = gradient * self._scales[name]
        mean += share * (scaled - mean)
        ahead = mean + share * (scaled - mean)  # Nesterov's momentum
        return self._muon.size * self._forms[name].orthogonalised(ahead, self._muon.smallest)


def orthogonal_factor(matrices: Array, smallest: float) -> Array:
    """U V^T for matrices U S V^T, (..., m, n): the factor of their polar decomposition.

    ``smallest``: singular value, relative to the largest, down from which directions become less than 1: they are
    rounding, or what the gradients of few samples do not show. All values are nan where one is not finite.
    """
    largest = np.abs(matrices).max((-2, -1), keepdims=True, initial=0.0)
    if not np.isfinite(largest).all():
        return np.full_like(matrices, np.nan)
    wide = matrices.shape[-2] <= matrices.shape[-1]
    # Powers of two do not round. The squares of larger values would overflow.
    matrix = np.ldexp(matrices if wide else matrices.swapaxes(-1, -2), -np.frexp(largest)[1])
    squares, vectors = np.linalg.eigh(matrix @ matrix.swapaxes(-1, -2))
    floor = smallest**2 * squares[..., -1:]
    inverse = 1 / np.sqrt(np.maximum(np.maximum(squares, floor), np.finfo(matrices.dtype).tiny))
    found = (vectors * inverse[..., None, :]) @ (vectors.swapaxes(-1, -2) @ matrix)
    return np.asarray(found if wide else found.swapaxes(-1, -2))
