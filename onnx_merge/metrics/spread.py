"""Squared errors against the spread of the targets, element by element, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import UsageError

Double = NDArray[np.float64]


class Spread:
    """Over all batches added: ``count`` of samples, and for each element of a sample the ``mean`` of the targets, their
    squared deviations from it (``spread``), and the squared errors (``error``)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Double = np.zeros(())
        self.spread: Double = np.zeros(())
        self.error: Double = np.zeros(())

    def add(self, target: NDArray[Any], output: NDArray[Any]) -> None:
        """Add a batch, both (n, elements). What is not finite in the target is left out.

        Deviations are put together as by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
        computing sample variances" (1979): no square of a large mean is ever taken.

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
        """Elements whose targets differ by more than their rounding."""
        return self.spread > self.count * (np.finfo(np.float64).eps * abs(self.mean)) ** 2
