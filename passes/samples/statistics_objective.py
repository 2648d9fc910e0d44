"""How far made-up samples are from recorded statistics, and from classes or objects, with the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from passes.graph.model import Array
from passes.samples.score_targets import ScoreTargets
from passes.samples.statistics_gradients import Feed, StatisticsGradients


class StatisticsObjective:
    """The mean deviation of the norms on the samples ``batch``, plus the weighted divergence from ``targets``, as a
    function of the inputs ``names``: one vector (D,), each input in units of about its spread."""

    def __init__(
        self, gradients: StatisticsGradients, batch: Feed, names: Sequence[str], targets: ScoreTargets
    ) -> None:
        self._gradients, self._batch, self._targets = gradients, batch, targets.inputs
        self._spreads = {name: _power_of_two(float(batch[name].std())) for name in names}
        self.start = np.concatenate([(batch[name] / spread).ravel() for name, spread in self._spreads.items()])
        self.start = self.start.astype(np.float32)
        self.deviations: dict[float, float] = {}
        """Value -> the deviation alone, or the divergence where no norm recorded statistics."""

    def __call__(self, point: Array) -> tuple[float, Array]:
        """Value and gradient (D,)."""
        model = self._gradients.model
        found = self._gradients.run({**self._batch, **self.samples(point), **self._targets})
        losses = [float(found[name]) for name in model.losses]
        norms = self._gradients.norms
        each = max(1, norms)
        value = sum(losses) / each
        self.deviations[value] = sum(losses[:norms] if norms else losses) / each
        slopes = [np.asarray(found[model.gradients[n]]).ravel() * (s / each) for n, s in self._spreads.items()]
        return value, np.concatenate(slopes).astype(np.float32)

    def samples(self, point: Array) -> Feed:
        """The inputs at ``point``, of float32."""
        ends = np.cumsum([self._batch[name].size for name in self._spreads])
        parts = zip(self._spreads.items(), np.split(point, ends[:-1]), strict=True)
        return {
            name: (part * spread).reshape(self._batch[name].shape).astype(np.float32) for (name, spread), part in parts
        }


def _power_of_two(size: float) -> float:
    """The nearest one. To divide and multiply by it leaves samples that do not move as they are."""
    return math.ldexp(1.0, round(math.log2(size))) if 0 < size < math.inf else 1.0
