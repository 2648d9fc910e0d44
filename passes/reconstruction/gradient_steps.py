"""Gradient steps from the layerwise solution towards the original: their rate, and the weights that are taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from passes.graph.model import Array
from passes.numerics.muon import Muon
from passes.reconstruction.imitation_loss import ImitationLoss
from passes.reconstruction.step_sizes import StepSizes
from passes.reconstruction.student import Student
from passes.settings.distillation_tuning import DistillationTuning

Values = Mapping[str, Array]


class Descent:
    """A run of Muon that can be interrupted. ``first``: weights; ``indices``: batches of ``loss`` in random order,
    ``joined`` of them a step; for ``rate`` and ``steps`` see `Adam`, for ``feature_weight`` `ImitationLoss.slopes`."""

    def __init__(
        self,
        loss: ImitationLoss,
        first: Values,
        sizes: StepSizes,
        rate: float,
        steps: int,
        indices: Sequence[int],
        joined: int,
        feature_weight: float,
    ) -> None:
        self._muon = Muon({n: a.copy() for n, a in first.items()}, sizes.scales, rate, steps, sizes.forms)
        self._loss, self._joined, self._feature_weight = loss, joined, feature_weight
        self._taken, self._indices, self._order = 0, indices, list[int]()
        self._rng = np.random.default_rng(0)
        self.rate, self.values = rate, self._muon.values

    def advance(self, to: int) -> Values | None:
        """Go on to step ``to``. Returns the mean of the weights in the second half of these steps, which shows what a
        rate gains before it has fallen (Polyak and Juditsky, Acceleration of stochastic approximation by averaging,
        1992). None if gradients overflow."""
        if to <= self._taken:
            return self.values
        sums = {name: np.zeros_like(value) for name, value in self.values.items()}
        middle = (self._taken + to) // 2
        while self._taken < to:
            while len(self._order) < self._joined:
                self._order = [*(int(index) for index in self._rng.permutation(self._indices)), *self._order]
            gradients: dict[str, Array] = {}
            taken = [self._order.pop() for _ in range(self._joined)]
            for found in self._loss.slopes(taken, self.values, self._feature_weight):
                if not all(np.isfinite(one).all() for one in found.values()):
                    return None
                gradients = {name: one + gradients[name] for name, one in found.items()} if gradients else found
            self._muon.step(gradients)
            self._taken += 1
            with np.errstate(over="ignore", invalid="ignore"):  # of weights that diverge
                for name, value in self.values.items() if self._taken > middle else ():
                    sums[name] += value
        return {name: value / (to - middle) for name, value in sums.items()}


class Refinement:
    """Steps of ``sizes`` from the weights of ``student``. ``learned``, ``judging``: batches of ``loss``; ``joined``:
    how many of the first a step learns from; ``feature_weight``: see `ImitationLoss.slopes`."""

    def __init__(
        self,
        student: Student,
        loss: ImitationLoss,
        sizes: StepSizes,
        learned: Sequence[int],
        judging: Sequence[int],
        joined: int,
        feature_weight: float,
        tuning: DistillationTuning,
    ) -> None:
        self._first, self._loss, self._learned, self._judging = student.values, loss, learned, judging
        self._joined, self._feature_weight, self._tuning = joined, feature_weight, tuning
        self._layers, self._sizes = len(student.layers), sizes
        self._start = loss.measured(judging, student.values)
        self._best: tuple[float, Values] = (self._start, student.values)

    def result(self, steps: int) -> tuple[Values, float]:
        """The best weights, and their loss on the samples that judge over that of the first ones.

        ``steps``: of a run. There is one, then a shorter one that learns from the samples that judged, too.
        """
        run = self._best_run(steps) if 0 < self._start < math.inf else None
        if run is None:
            return self._first, 1.0
        ends = [steps * k // self._tuning.judgements for k in range(2, self._tuning.judgements + 1)]
        at_end = math.inf
        for end in ends:
            at_end = math.inf if run.advance(end) is None else self._judge(run.values)
            if at_end > self._tuning.hopeless * self._start:
                return self._first, 1.0
        for share in self._tuning.mixtures:
            self._judge({n: (a + share * (run.values[n] - a)).astype(a.dtype) for n, a in self._first.items()})
        found, values = self._best
        # What is gained on the way and lost again is chance, or a few samples that are fitted too closely.
        if max(found, at_end) > self._tuning.least_gain * self._start:
            return self._first, 1.0
        count = max(1, int(self._tuning.last_share * steps))
        last = self._descent(values, run.rate * self._tuning.last_rate, count, [*self._learned, *self._judging])
        if last.advance(count) is not None and self._loss.measured(self._judging, last.values) <= found:
            values = last.values
        return values, found / self._start

    def _best_run(self, steps: int) -> Descent | None:
        """The begun run at the rate, relative to the weights, that serves best, None if all lead away. Gains
        are counted from the loss that is tolerated."""
        # Changes add up from layer to layer.
        size = math.sqrt(min(1.0, self._start)) / self._layers
        best, most = None, 0.0
        for rate in self._tuning.rates:
            run = self._descent(self._first, rate * size, steps, self._learned)
            gain = self._tuning.tolerated * self._start - self._begun(run, math.ceil(self._tuning.tried_share * steps))
            if gain > most * self._tuning.slower_gain:
                best, most = run, gain
            elif best is not None:
                break
        return best

    def _begun(self, run: Descent, steps: int) -> float:
        """The loss of the mean weights of the first ``steps`` of a run."""
        for end in (math.ceil(steps / 4), steps):
            mean = run.advance(end)
            found = math.inf if mean is None else self._judge(mean)
            if found > self._tuning.hopeless * self._start:
                return math.inf
        return found

    def _descent(self, first: Values, rate: float, steps: int, indices: Sequence[int]) -> Descent:
        return Descent(self._loss, first, self._sizes, rate, steps, indices, self._joined, self._feature_weight)

    def _judge(self, values: Values) -> float:
        """The loss of ``values`` on the samples that judge. The best values are kept."""
        found = self._loss.measured(self._judging, values)
        found = found if math.isfinite(found) else math.inf
        if found < self._best[0]:
            self._best = (found, {name: array.copy() for name, array in values.items()})
        return found
