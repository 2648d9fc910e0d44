"""Refines all layers of the compressed model together, so that it mimics the original on the samples.

Layers are solved one after the other, each for its own output. What the later ones make of its error is not known
then. Here all weights move at once, down the gradient of one loss (`passes.reconstruction.mimicked_tensors`), without
labels. A part of the samples is left out, and judges: the new weights are taken only if the loss falls there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.cost.cost import cost, samples_held
from passes.gradients.errors import NoGradientError
from passes.graph.model import Array
from passes.interface.errors import RunError
from passes.interface.reason import Reason, planned
from passes.numerics.adam import Adam
from passes.numerics.arrays import has_rows
from passes.planning.plan import GroupPlan
from passes.reconstruction.imitation_loss import ImitationLoss
from passes.reconstruction.student import Student, student
from passes.reconstruction.weight_variants import WeightVariant, samples_together
from passes.settings.tuning import DistillationTuning
from passes.statistics.activation_memory import WIDTH
from passes.statistics.batchnorm_recalibration import samples_in
from passes.surgery.apply_plan import Solution

EFFORTS = ("low", "medium", "high")
"""How much time is spent on a result: nothing is refined at low effort."""


@dataclass(frozen=True)
class Distillation:
    """``solution``: with the refined weights, or the one before; ``ratio``: loss on the samples that judge, over that
    before; ``reason``: why nothing was refined."""

    solution: Solution
    ratio: float = 1.0
    reason: Reason | None = None


@dataclass(frozen=True)
class Schedule:
    """``batch``: samples of a step; ``steps``: their number, 0 if there is no time or memory for any."""

    batch: int
    steps: int


def distil(variant: WeightVariant, plans: Sequence[GroupPlan], solution: Solution, effort: str) -> Distillation:
    """Refine ``solution`` on the samples of ``variant``. It never gets worse on those that judge."""
    tuning = variant.tuning.distillation
    if effort not in EFFORTS[1:]:
        return Distillation(solution)
    if sum(map(samples_in, variant.feeds)) * variant.distinct < tuning.fewest_samples:
        return Distillation(solution, reason=planned("there are too few samples to judge it"))
    schedule = scheduled(variant, tuning, EFFORTS.index(effort) - 1)
    if not schedule.steps:
        return Distillation(solution, reason=planned("its steps would take too long or do not fit the memory"))
    pupil = student(variant.typing, plans, solution)
    if not pupil.layers:
        return Distillation(solution, reason=planned("no layer that lost channels has weights of float32"))
    feeds, judges = divided(variant, schedule.batch, tuning)
    learned = range(judges, len(feeds))
    try:
        weighing = learned[: max(1, tuning.weighing_samples // schedule.batch)]
        loss = ImitationLoss(pupil, feeds, weighing, variant.engine, variant.moment_limit, tuning)
        values, ratio = _Refinement(pupil, loss, learned, range(judges), tuning).result(schedule.steps)
    except NoGradientError as error:
        return Distillation(solution, reason=error.reason)
    except RunError as error:
        return Distillation(solution, reason=planned(str(error)))
    return Distillation(pupil.solution(solution, values) if ratio < 1 else solution, ratio)


def scheduled(variant: WeightVariant, tuning: DistillationTuning, level: int) -> Schedule:
    """The batch size and the number of steps that fit time and memory. ``level``: 0 at medium effort, 1 at high."""
    graph = variant.sized.graph
    names = [n for node in graph.nodes for n in node.outputs if n and n not in graph.constants]
    each = sum(WIDTH * math.prod(graph.shape(name) or (0,)) for name in names) / samples_held(graph)
    unit = samples_together(variant.typing.graph, variant.feeds[0])
    room = min(tuning.batch, variant.moment_limit / max(1.0, tuning.activation_copies * each))
    passes = tuning.multiply_adds[level] / (tuning.passes * max(1, cost(graph).macs))
    used = sum(map(samples_in, variant.feeds))
    most = min(room, used // tuning.fewest_batches, samples_in(variant.feeds[0]), passes / tuning.steps[level])
    batch = max(1, int(most) // unit) * unit
    steps = min(tuning.steps[level], int(passes / batch))
    fits = batch <= max(1, room) and tuning.fewest_batches * batch <= used
    return Schedule(batch, steps if fits and steps >= tuning.fewest_steps else 0)


def divided(variant: WeightVariant, batch: int, tuning: DistillationTuning) -> tuple[list[Mapping[str, Array]], int]:
    """The samples in batches of ``batch``, and how many of the first ones judge."""
    found: list[Mapping[str, Array]] = []
    for feed in variant.feeds:
        count = samples_in(feed)
        for start in range(0, count - count % batch or count, batch):
            found.append({n: a[start : start + batch] if has_rows(a) else a for n, a in feed.items()})
    total = sum(map(samples_in, found))
    wanted = min(tuning.most_judged, max(1, total // tuning.judged_share))
    judges = max(1, min(len(found) - 1, math.ceil(wanted / batch)))
    return found, judges


class _Refinement:
    """Steps of Adam from the weights of ``pupil``."""

    def __init__(
        self,
        pupil: Student,
        loss: ImitationLoss,
        learned: Sequence[int],
        judging: Sequence[int],
        tuning: DistillationTuning,
    ) -> None:
        self._first, self._loss, self._learned, self._judging = pupil.values, loss, learned, judging
        self._tuning = tuning
        self._scales = {}
        for one in pupil.layers:
            weights = pupil.values[one.weight]
            self._scales[one.weight] = size = float(np.sqrt(np.square(weights).mean()))
            if one.bias:  # about the spread of the output of independent inputs
                inputs = weights.size / max(1, weights.shape[one.layer.weight_axes[0]])
                self._scales[one.bias] = size * math.sqrt(inputs) * loss.spreads.get(one.layer.data, 1.0)
        self._start = loss.measured(judging, pupil.values)
        self._best: tuple[float, dict[str, Array]] = (self._start, pupil.values)

    def result(self, steps: int) -> tuple[dict[str, Array], float]:
        """The best weights, and their loss over that of the first ones. ``steps``: of the schedule."""
        rate = self._tuning.rate
        if not 0 < self._start < math.inf:
            return self._first, 1.0
        for _ in range(self._tuning.most_trials):
            last = self._descend(rate, steps)
            if last is not None:
                break
            rate /= self._tuning.slower
        else:
            return self._first, 1.0
        for share in self._tuning.mixtures:
            self._judge({n: (a + share * (last[n] - a)).astype(a.dtype) for n, a in self._first.items()})
        return self._best[1], self._best[0] / self._start

    def _descend(self, rate: float, steps: int) -> dict[str, Array] | None:
        """The last weights of a whole schedule. None if the loss has risen where the rate is judged."""
        tuning = self._tuning
        adam = Adam({n: a.copy() for n, a in self._first.items()}, self._scales, rate, steps)
        trial = max(1, int(tuning.trial_share * steps))
        judged = {trial + (steps - trial) * k // tuning.judgements for k in range(1, tuning.judgements + 1)}
        order: list[int] = []
        rng = np.random.default_rng(0)
        for step in range(1, steps + 1):
            order = order or list(rng.permutation(self._learned))
            loss, gradients = self._loss.slope(int(order.pop()), adam.values)
            if not math.isfinite(loss):
                return None
            adam.step(gradients)
            if (step == trial or step in judged) and not self._judge(adam.values) < math.inf:
                return None
            if step == trial and self._last > self._start:
                return None
        return adam.values

    def _judge(self, values: Mapping[str, Array]) -> float:
        """The loss of ``values`` on the samples that judge. The best values are kept."""
        self._last = self._loss.measured(self._judging, values)
        if self._last < self._best[0]:
            self._best = (self._last, {name: array.copy() for name, array in values.items()})
        return self._last
