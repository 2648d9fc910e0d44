"""Accumulate squared errors and the squared deviations of targets, for each element, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import UsageError

Double = NDArray[np.float64]


class Spread:
    """Sums over all batches added so far.

    ``count`` is the number of samples. The others have one value for each element of a sample: ``mean`` of the targets,
    ``spread``, the sum of their squared deviations from it, and ``error``, the sum of the squared errors.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Double = np.zeros(())
        self.spread: Double = np.zeros(())
        self.error: Double = np.zeros(())

    def add(self, target: NDArray[Any], output: NDArray[Any]) -> None:
        """Add a batch, both arrays (n, elements). Elements whose target is not finite are left out.

        Deviations are combined by the pairwise formula of Chan, Golub and LeVeque, "Updating formulae and a pairwise
        algorithm for computing sample variances" (1979), which never squares a large mean.

        Raises
        ------
        UsageError: the batches have samples of different shapes.
        """
        if self.count and self.mean.shape != target.shape[1:]:
            raise UsageError("outputs have another shape from batch to batch: this measure cannot compare them")
        finite = np.isfinite(target)
        target, output = np.where(finite, target, 0.0), np.where(finite, output, 0.0)
        count, mean = len(target), target.mean(0)
        delta, both = mean - self.mean, self.count + count
        self.spread = self.spread + ((target - mean) ** 2).sum(0) + delta**2 * (self.count * count / both)
        self.error = self.error + ((target - output) ** 2).sum(0)
        self.mean = self.mean + delta * (count / both)
        self.count = both

    @property
    def varies(self) -> NDArray[np.bool_]:
        """A mask of the elements whose targets vary by more than their rounding."""
        return self.spread > self.count * (np.finfo(np.float64).eps * abs(self.mean)) ** 2
