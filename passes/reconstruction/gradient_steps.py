"""Gradient steps from the layerwise solution towards the original: their rate, and the weights that are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from passes.graph.model import Array
from passes.numerics.adam import Adam
from passes.reconstruction.imitation_loss import ImitationLoss
from passes.reconstruction.student import Student
from passes.settings.distillation_tuning import DistillationTuning

Values = Mapping[str, Array]


class Refinement:
    """Steps of Adam from the weights of ``student``. ``learned``, ``judging``: batches of ``loss``;
    ``joined``: how many of the first a step learns from; ``feature_weight``: see `ImitationLoss.slopes`."""

    def __init__(
        self,
        student: Student,
        loss: ImitationLoss,
        learned: Sequence[int],
        judging: Sequence[int],
        joined: int,
        feature_weight: float,
        tuning: DistillationTuning,
    ) -> None:
        self._first, self._loss, self._learned, self._judging = student.values, loss, learned, judging
        self._joined, self._feature_weight, self._tuning = joined, feature_weight, tuning
        self._layers = len(student.layers)
        self._scales: dict[str, Array] = {}
        for one in student.layers:
            weights = one.start
            sizes = row_sizes(weights, one.layer.weight_axes[0], tuning.smallest_row)
            inputs = math.sqrt(weights.size / max(1, sizes.size))
            # The first steps of Adam add up over the inputs: they change an output by the rate, relative to its spread.
            if one.weight:
                self._scales[one.weight] = np.asarray(sizes / inputs, weights.dtype)
            if one.bias:
                spread = loss.spreads.get(one.layer.data, 1.0) * inputs * sizes.ravel()
                self._scales[one.bias] = np.asarray(spread, weights.dtype)
        self._start = loss.measured(judging, student.values)
        self._best: tuple[float, Values] = (self._start, student.values)

    def result(self, steps: int) -> tuple[Values, float]:
        """The best weights, and their loss on the samples that judge over that of the first ones.

        ``steps``: of a run. There is one, then a shorter one that learns from the samples that judged, too.
        """
        rate = self._best_rate(steps) if 0 < self._start < math.inf else None
        found, values = self._best
        if rate is None:
            return self._first, 1.0
        everything = [*self._learned, *self._judging]
        count = max(1, int(self._tuning.last_share * steps))
        last = self._descend(values, rate * self._tuning.last_rate, count, everything)
        if last is not None and self._loss.measured(self._judging, last) <= found:
            values = last
        return values, found / self._start

    def _best_rate(self, steps: int) -> float | None:
        """The first rate, relative to the weights, that leads to better weights. None if none does."""
        # Changes add up from layer to layer.
        size = math.sqrt(min(1.0, self._start)) / self._layers
        for tries, rate in enumerate(self._tuning.rates):
            count = steps if tries == 0 else math.ceil(steps * self._tuning.retry_share)
            last = self._descend(self._first, rate * size, count, self._learned, self._tuning.judgements)
            if last is not None:
                self._judge_between(last)
            if self._best[0] < self._start:
                return rate * size
        return None

    def _descend(
        self, first: Values, rate: float, steps: int, indices: Sequence[int], judgements: int = 0
    ) -> Values | None:
        """The last weights of a whole schedule over the batches ``indices``. None if gradients overflow, or if the loss
        is far above that of the first weights where it is judged."""
        adam = Adam({n: a.copy() for n, a in first.items()}, self._scales, rate, steps)
        order: list[int] = []
        rng = np.random.default_rng(0)
        judged = {steps * k // judgements for k in range(1, judgements + 1)}
        for step in range(1, steps + 1):
            while len(order) < self._joined:
                order = [*(int(index) for index in rng.permutation(indices)), *order]
            gradients: dict[str, Array] = {}
            taken = [order.pop() for _ in range(self._joined)]
            for found in self._loss.slopes(taken, adam.values, self._feature_weight):
                if not all(np.isfinite(one).all() for one in found.values()):
                    return None
                gradients = {name: one + gradients[name] for name, one in found.items()} if gradients else found
            adam.step(gradients)
            if step in judged and self._judge(adam.values) > self._tuning.hopeless * self._start:
                return None
        return adam.values

    def _judge_between(self, last: Values) -> None:
        """Judge weights between the first and the last."""
        for share in self._tuning.mixtures:
            self._judge({n: (a + share * (last[n] - a)).astype(a.dtype) for n, a in self._first.items()})

    def _judge(self, values: Values) -> float:
        """The loss of ``values`` on the samples that judge. The best values are kept."""
        found = self._loss.measured(self._judging, values)
        found = found if math.isfinite(found) else math.inf
        if found < self._best[0]:
            self._best = (found, {name: array.copy() for name, array in values.items()})
        return found


def row_sizes(weights: Array, axis: int, smallest: float) -> Array:
    """Root mean square of the weights of each output, of a shape that broadcasts to ``weights``, at least a share
    ``smallest`` of that of all weights. Outputs differ in size where norms were folded into them."""
    others = tuple(k for k in range(weights.ndim) if k != axis)
    squares = np.square(weights, dtype=np.float64).mean(others, keepdims=True)
    return np.asarray(np.sqrt(np.maximum(squares, smallest**2 * squares.mean())), weights.dtype)
