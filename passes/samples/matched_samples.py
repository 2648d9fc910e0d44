"""Moves made-up samples by gradient until they resemble the training data to the model.

Each norm recorded the mean and the variance of its input over the training data. Samples on which all norms see these
again resemble the training data to the network, whatever they look like (Yin et al., DeepInversion, CVPR 2020; Cai et
al., ZeroQ, CVPR 2020). The samples here are not made from noise but moved from images, which already have the
correlations of neighbouring pixels, and which a few steps therefore leave diverse.

Samples are also moved until scores are those of classes (`passes.samples.class_targets`) or objects
(`passes.samples.dense_scores`). Where norms were folded, that is all there is to go by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from passes.cost.cost import sample_macs, samples_held
from passes.gradients.errors import NoGradientError
from passes.graph.model import Graph
from passes.interface.engine import Engine, share_threads
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows, parts_of, rows_between, samples_in, samples_joined
from passes.numerics.lbfgs import minimise
from passes.numerics.threads import at_once
from passes.numerics.tuning import NUMERICS
from passes.samples.score_targets import ScoreTargets, targets_of
from passes.samples.statistics_gradients import Feed, StatisticsGradients, statistics_gradients
from passes.samples.statistics_objective import StatisticsObjective
from passes.settings.compress import EFFORTS
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.activation_memory import WIDTH, every_activation, weight_count


@dataclass(frozen=True)
class MatchedSamples:
    """``feeds``: batches of moved samples; ``recorded``: whether norms recorded statistics; ``deviations``: from them,
    before and after, the mean of `passes.gradients.losses.RecordedStatistics` over the norms; without norms the mean
    divergence of the scores from their targets."""

    feeds: list[Feed]
    deviations: tuple[float, float]
    recorded: bool = True


def matched_samples(
    before: Graph,
    counted: Graph,
    feeds: Sequence[Feed],
    engine: Engine,
    memory: float,
    tuning: SampleMatchingTuning,
    effort: str = "low",
) -> MatchedSamples | None:
    """The samples ``feeds``, moved, or the first of them: few that moved far serve better than many that did not. None
    if the model has neither norms nor scores, or no gradient, if that would take too long, or if it gains little, as
    where the statistics belong to other weights.

    ``before``: the model with its BatchNormalization; ``counted``: with the shapes of a sample, for counting only;
    ``memory``: bytes of a step; ``effort``: see `passes.settings.compress`.
    """
    moved = [n for n, a in feeds[0].items() if has_rows(a) and a.size and a.dtype.kind == "f" and n in before.inputs]
    level = EFFORTS.index(effort)
    allowed = min(tuning.multiply_adds[level], tuning.weight_multiply_adds[level] * weight_count(counted))
    passes = allowed / (tuning.passes * sample_macs(counted))
    feeds = _first(feeds, max(tuning.fewest_samples, int(tuning.more_share * passes / max(1, tuning.steps))))
    steps = min(tuning.steps, int(passes / max(1, sum(map(samples_in, feeds)))))
    if not moved or steps < tuning.fewest_steps:
        return None
    fixed = bool(before.info.rigid) or any((name, 0) not in before.info.dynamic for name in moved)
    room = memory / max(1.0, _sample_bytes(counted, moved, tuning))
    batches = [*feeds] if fixed else parts_of(samples_joined(feeds), max(1, min(tuning.batch, int(room))))
    engine, workers = share_threads(engine, min(len(batches), int(room / samples_in(batches[0]))))
    try:
        gradients = _gradients(before, moved, batches[0], engine, tuning, steps >= tuning.score_steps)
        if gradients is None:
            return None
        targets = targets_of(gradients, batches, tuning)
        if not gradients.norms and not any(given.move for given in targets):
            return None
        moved = [*gradients.model.gradients]
        move = partial(_move_samples, gradients, names=moved, steps=steps, tuning=tuning)
        found = [*at_once(lambda given: move(*given), zip(batches, targets, strict=True), workers)]
    except (NoGradientError, RunError):
        return None
    whole = samples_joined([part for part, _ in found])
    starts = [0, *np.cumsum([samples_in(feed) for feed in feeds])]
    made = [
        {**feed, **rows_between(whole, *ends)} for feed, ends in zip(feeds, itertools.pairwise(starts), strict=True)
    ]
    deviations = [ends for _, ends in found]
    first, last = (float(value) for value in np.mean(deviations, axis=0))
    if not gradients.norms:
        return MatchedSamples(made, (first, last), recorded=False) if last < first else None
    serves = last <= max(min(tuning.least_gain * first, tuning.unfit), tuning.close)
    return MatchedSamples(made, (first, last)) if serves else None


def _gradients(
    before: Graph, moved: Sequence[str], batch: Feed, engine: Engine, tuning: SampleMatchingTuning, scores: bool
) -> StatisticsGradients | None:
    """Gradients of the deviations of statistics and, with ``scores``, of the divergence of scores where it has
    gradients."""
    try:
        return statistics_gradients(before, moved, batch, engine, tuning, scores)
    except NoGradientError:
        return statistics_gradients(before, moved, batch, engine, tuning, scores=False)


def _move_samples(
    gradients: StatisticsGradients,
    batch: Feed,
    targets: ScoreTargets,
    names: Sequence[str],
    steps: int,
    tuning: SampleMatchingTuning,
) -> tuple[Feed, tuple[float, float]]:
    """The inputs ``names`` with the least deviation on the way, and the deviations before and after. ``targets``:
    of the scores."""
    objective = StatisticsObjective(gradients, batch, names, targets)
    close = gradients.close(targets.move, tuning)
    with np.errstate(over="ignore", invalid="ignore"):  # of steps that are too long, and are shortened
        point, value = minimise(objective, objective.start, tuning.first_step, steps + 1, close)
    if not math.isfinite(value):
        return batch, (math.inf, math.inf)
    found, deviations = objective.samples(point), objective.deviations
    ends = next(iter(deviations.values())), deviations[value]
    return {name: found[name].astype(batch[name].dtype) for name in names}, ends


def _sample_bytes(counted: Graph, names: Sequence[str], tuning: SampleMatchingTuning) -> float:
    """Memory of a sample in a step, forward and backward. Statistics are over a batch."""
    moved = sum(WIDTH * math.prod(counted.shape(name) or ()) for name in names) / samples_held(counted)
    return tuning.activation_copies * every_activation(counted) + 2 * (NUMERICS.lbfgs.history + 1) * moved


def _first(feeds: Sequence[Feed], count: int) -> Sequence[Feed]:
    """The first batches, with ``count`` samples or a few more."""
    ends = np.cumsum([samples_in(feed) for feed in feeds])
    return feeds[: 1 + int(np.searchsorted(ends, count))]
