"""How far made-up samples are from what a model recorded in training, and from classes, with the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.rules.norm import batchnorm_affine
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.losses import KullbackLeibler, RecordedStatistics, ScalarLoss
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded
from passes.samples.class_targets import ClassScores, class_scores, class_targets
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.batchnorm_recalibration import samples_in
from passes.transforms.fold_batchnorm import fold_batchnorm

Feed = dict[str, Array]
TARGET, WEIGHT = "made.target", "made.weight"
"""Inputs of the gradients: target probabilities of the classes, and their weights."""


@dataclass(frozen=True)
class StatisticsGradients:
    """``run``: of ``model``, which computes the deviations of all norms and then, of a classifier, the divergence of
    its ``scores`` from targets, and the gradients of their sum."""

    model: GradientModel
    run: Loaded
    scores: ClassScores | None


def statistics_gradients(
    before: Graph, moved: Sequence[str], feed: Feed, engine: Engine, tuning: SampleMatchingTuning, classes: bool
) -> StatisticsGradients | None:
    """The gradients with respect to the inputs ``moved``. ``classes``: whether samples are moved to classes, too.

    Norms are folded into the layers before them, and the deviations are of what these compute: a step has fewer
    operations, forward and backward.
    """
    graph = graph_at(fold_batchnorm(before).model, feed, engine)
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.outputs)}
    losses: list[ScalarLoss] = []
    for node in before.nodes:
        if node.op != "BatchNormalization" or node.attrs.get("training_mode", 0):
            continue
        rank = len(before.shape(node.inputs[0]) or ())
        if rank < 2 or any(not before.knows(name) or len(before.shape(name) or ()) != 1 for name in node.inputs[1:5]):
            continue
        mean, variance = (before.array(name).astype(np.float64) for name in node.inputs[3:5])
        seen = node.inputs[0]
        if seen not in made:  # the layer before it computes its output, now
            affine, seen = batchnorm_affine(before, node), node.outputs[0]
            mean, variance = affine.a * mean + affine.t, np.square(affine.a) * variance
        if seen in made:
            losses.append(RecordedStatistics(seen, mean, variance, rank, tuning.dead, tuning.floor))
    if not losses:
        return None
    scores = class_scores(graph) if classes else None
    if scores is not None:
        losses.append(KullbackLeibler(scores.tensor, TARGET, WEIGHT, axis=1))
    model = gradient_model(graph, list(moved), losses=losses, kept=[] if scores is None else [scores.tensor])
    return StatisticsGradients(model, engine(model.model), scores)


def targets_of(
    gradients: StatisticsGradients, batches: Sequence[Feed], tuning: SampleMatchingTuning
) -> list[Array | None]:
    """Target probabilities (n, K) for the samples of each batch. None without any.

    Classes are balanced over each batch, since norms recorded the statistics of many classes together; over all samples
    where a batch has fewer samples than there are classes.
    """
    scores, none = gradients.scores, list[Array | None]([None] * len(batches))
    if scores is None:
        return none
    logits = []
    for batch in batches:
        given = _target_feed(scores, np.full((samples_in(batch), scores.classes), 1 / scores.classes), 0.0)
        found = np.asarray(gradients.run({**batch, **given})[scores.tensor])
        if not np.isfinite(found).all():
            return none
        logits.append(found.reshape(len(found), -1))
    targets = class_targets(np.concatenate(logits), tuning)
    if targets is None:
        return none
    if min(map(len, logits)) >= scores.classes:
        return [class_targets(found, tuning) for found in logits]
    return [*np.split(targets, np.cumsum([len(found) for found in logits])[:-1])]


def _target_feed(scores: ClassScores, targets: Array, weight: float) -> Feed:
    """``targets`` (n, K) and their weights."""
    return {TARGET: scores.line(targets), WEIGHT: scores.line(np.full((len(targets), 1), weight))}


class StatisticsObjective:
    """The mean deviation of the norms on the samples ``batch``, plus the weighted divergence from ``targets``, as a
    function of the inputs ``names``: one vector (D,), each input in units of about its spread."""

    def __init__(
        self,
        gradients: StatisticsGradients,
        batch: Feed,
        names: Sequence[str],
        targets: Array | None,
        tuning: SampleMatchingTuning,
    ) -> None:
        self._gradients, self._batch = gradients, batch
        self._spreads = {name: _power_of_two(float(batch[name].std())) for name in names}
        self.start = np.concatenate([(batch[name] / spread).ravel() for name, spread in self._spreads.items()])
        self.start = self.start.astype(np.float32)
        scores = gradients.scores
        self._norms = len(gradients.model.losses) - (scores is not None)
        self._targets: Feed = {}
        if scores is not None:
            count = samples_in(batch)
            weight = 0.0 if targets is None else tuning.class_weight * self._norms / count
            targets = np.full((count, scores.classes), 1 / scores.classes) if targets is None else targets
            self._targets = _target_feed(scores, targets, weight)
        self.deviations: dict[float, float] = {}
        """Value -> the deviation alone."""

    def __call__(self, point: Array) -> tuple[float, Array]:
        """Value and gradient (D,)."""
        model = self._gradients.model
        found = self._gradients.run({**self._batch, **self.samples(point), **self._targets})
        losses = [float(found[name]) for name in model.losses]
        value = sum(losses) / self._norms
        self.deviations[value] = sum(losses[: self._norms]) / self._norms
        slopes = [np.asarray(found[model.gradients[n]]).ravel() * (s / self._norms) for n, s in self._spreads.items()]
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
