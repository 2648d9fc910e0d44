"""Gradient steps from the layerwise solution towards the original: their rate, and the weights that are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.numerics.adam import Adam
from passes.reconstruction.imitation_loss import ImitationLoss
from passes.reconstruction.student import Student
from passes.settings.tuning import DistillationTuning

Values = Mapping[str, Array]


@dataclass(frozen=True)
class StepChoice:
    """``rate``: of the steps, relative to the weights; ``feature_weight``: see `ImitationLoss.slope`."""

    rate: float
    feature_weight: float


class Refinement:
    """Steps of Adam from the weights of ``student``. ``learned``, ``judging``: batches of ``loss``;
    ``joined``: how many of the first a step learns from."""

    def __init__(
        self,
        student: Student,
        loss: ImitationLoss,
        learned: Sequence[int],
        judging: Sequence[int],
        joined: int,
        tuning: DistillationTuning,
    ) -> None:
        self._first, self._loss, self._learned, self._judging = student.values, loss, learned, judging
        self._joined, self._tuning = joined, tuning
        self._layers = len(student.layers)
        self._scales: dict[str, Array] = {}
        for one in student.layers:
            weights = student.values[one.weight]
            sizes = row_sizes(weights, one.layer.weight_axes[0], tuning.smallest_row)
            inputs = math.sqrt(weights.size / max(1, sizes.size))
            # The first steps of Adam add up over the inputs: they change an output by the rate, relative to its spread.
            self._scales[one.weight] = np.asarray(sizes / inputs, weights.dtype)
            if one.bias:
                spread = loss.spreads.get(one.layer.data, 1.0) * inputs * sizes.ravel()
                self._scales[one.bias] = np.asarray(spread, weights.dtype)
        self._start = loss.measured(judging, student.values)
        self._best: tuple[float, Values] = (self._start, student.values)

    def result(self, steps: int) -> tuple[Values, float]:
        """The best weights, and their loss on the samples that judge over that of the first ones.

        ``steps``: of a run. There is one for each weight of the features, then one that learns from the samples that
        judged, too.
        """
        best = self._best_choice(steps) if 0 < self._start < math.inf else None
        found, values = self._best
        if best is None:
            return self._first, 1.0
        slower = StepChoice(best.rate * self._tuning.last_rate, best.feature_weight)
        everything = [*self._learned, *self._judging]
        last = self._descend(values, slower, max(1, int(self._tuning.last_share * steps)), everything)
        if last is not None and self._loss.measured(self._judging, last) <= found:
            values = last
        return values, found / self._start

    def _best_choice(self, steps: int) -> StepChoice | None:
        """The choice that led to the best weights. None if none are better than the first."""
        best = None
        # Changes add up from layer to layer.
        size = math.sqrt(min(1.0, self._start)) / self._layers
        for rate in self._tuning.rates:
            for weight in self._tuning.feature_weights:
                choice, before = StepChoice(rate * size, weight), self._best[0]
                last = self._descend(self._first, choice, steps, self._learned, self._tuning.judgements)
                if last is not None:
                    self._judge_between(last)
                best = choice if self._best[0] < before else best
            if best is not None:
                break
        return best

    def _descend(
        self, first: Values, choice: StepChoice, steps: int, indices: Sequence[int], judgements: int = 0
    ) -> Values | None:
        """The last weights of a whole schedule over the batches ``indices``. None if the loss overflows, or is far
        above that of the first weights where it is judged."""
        adam = Adam({n: a.copy() for n, a in first.items()}, self._scales, choice.rate, steps)
        order: list[int] = []
        rng = np.random.default_rng(0)
        judged = {steps * k // judgements for k in range(1, judgements + 1)}
        for step in range(1, steps + 1):
            while len(order) < self._joined:
                order = [*(int(index) for index in rng.permutation(indices)), *order]
            gradients: dict[str, Array] = {}
            for _ in range(self._joined):
                loss, found = self._loss.slope(order.pop(), adam.values, choice.feature_weight)
                if not math.isfinite(loss):
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
