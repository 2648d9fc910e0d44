"""What the scores of made-up samples are to be: those of classes, or of objects at some places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.numerics.arrays import samples_in
from passes.samples.class_targets import ClassScores, class_targets
from passes.samples.dense_scores import object_targets
from passes.samples.statistics_gradients import TARGET, WEIGHT, Feed, StatisticsGradients
from passes.settings.sample_tuning import SampleMatchingTuning


@dataclass(frozen=True)
class ScoreTargets:
    """``inputs``: targets of the scores, and their weights; ``move``: whether any is above 0."""

    inputs: Feed
    move: bool


def targets_of(
    gradients: StatisticsGradients, batches: Sequence[Feed], tuning: SampleMatchingTuning
) -> list[ScoreTargets]:
    """What the scores of each batch are to be. None is moved where they do not look like those of classes.

    Classes are balanced over each batch, since norms recorded the statistics of many classes together; over all samples
    where a batch has fewer samples than there are classes.
    """
    counts = [samples_in(batch) for batch in batches]
    weights = [gradients.weight(count, tuning) for count in counts]
    classes = gradients.classes
    if classes is None:
        given = enumerate(zip(counts, weights, strict=True))
        made = [object_targets(gradients.heads, count, seed, weight, tuning) for seed, (count, weight) in given]
        return [ScoreTargets(inputs, bool(gradients.heads)) for inputs in made]
    none = [np.full((count, classes.classes), 1 / classes.classes) for count in counts]
    unmoved = [_to_classes(classes, one, 0.0) for one in none]
    logits = [
        np.asarray(gradients.run({**batch, **given.inputs})[classes.tensor]).reshape(count, -1)
        for batch, given, count in zip(batches, unmoved, counts, strict=True)
    ]
    if not all(np.isfinite(one).all() for one in logits):
        return unmoved
    found = class_targets(np.concatenate(logits), tuning)
    if found is None:
        return unmoved
    parts = np.split(found, np.cumsum(counts)[:-1])
    if min(counts) >= classes.classes:
        parts = [
            part if own is None else own
            for part, own in zip(parts, (class_targets(one, tuning) for one in logits), strict=True)
        ]
    return [_to_classes(classes, *one) for one in zip(parts, weights, strict=True)]


def _to_classes(scores: ClassScores, targets: Array, weight: float) -> ScoreTargets:
    """``targets`` (n, K) of n samples, each of ``weight``."""
    weights = scores.line(np.full((len(targets), 1), weight))
    return ScoreTargets({TARGET: scores.line(targets), WEIGHT: weights}, weight > 0)
