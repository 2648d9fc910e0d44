"""How far made-up samples are from what a model recorded in training, and from classes, with the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.rules.norm import batchnorm_affine
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.losses import KullbackLeibler, RecordedStatistics, ScalarLoss
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded
from passes.samples.class_targets import ClassScores, class_scores, class_targets
from passes.samples.dense_scores import ScoreHead, object_targets, score_heads
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.batchnorm_recalibration import samples_in
from passes.transforms.fold_batchnorm import fold_batchnorm

Feed = dict[str, Array]
TARGET, WEIGHT = "made.target", "made.weight"
"""Inputs of the gradients: target probabilities of the classes, and their weights."""


@dataclass(frozen=True)
class StatisticsGradients:
    """``run``: of ``model``, which computes the deviations of all ``norms``, then the divergences of scores from
    targets, and the gradients of their sum. ``classes``: the scores of a classifier, if the model is one; ``heads``:
    other scores."""

    model: GradientModel
    run: Loaded
    norms: int
    classes: ClassScores | None
    heads: Sequence[ScoreHead]

    def weight(self, count: int, tuning: SampleMatchingTuning) -> float:
        """Of the divergence of one of ``count`` samples, where the deviation of each norm has the weight 1."""
        beside_norms = tuning.object_weight if self.classes is None else tuning.class_weight
        return (beside_norms * self.norms if self.norms else 1.0) / count

    def close(self, scores: bool, tuning: SampleMatchingTuning) -> float:
        """Value at which samples are no longer moved. ``scores``: whether it counts those."""
        if not (self.norms and scores):
            return tuning.close
        return tuning.object_close if self.classes is None else tuning.class_close


def statistics_gradients(
    before: Graph, moved: Sequence[str], feed: Feed, engine: Engine, tuning: SampleMatchingTuning, scores: bool
) -> StatisticsGradients | None:
    """The gradients with respect to those of the inputs ``moved`` that matter; None if nothing says what they are to
    be. ``scores``: whether samples are moved to classes or objects, too; they are anyway where no statistics were
    recorded.

    Norms are folded into the layers before them, and the deviations are of what these compute: a step has fewer
    operations, forward and backward.
    """
    graph = graph_at(fold_batchnorm(before).model, feed, engine)
    losses: list[ScalarLoss] = [*_recorded(before, graph, tuning)]
    norms = len(losses)
    classes, heads = None, list[ScoreHead]()
    if scores or not norms:
        classes = class_scores(graph)
        heads = score_heads(graph) if classes is None else []
        losses += [head.loss for head in heads]
    if classes is not None:
        losses.append(KullbackLeibler(classes.tensor, TARGET, WEIGHT, axis=1))
    reached = _sources(graph, [loss.tensor for loss in losses])
    wrt = [name for name in moved if name in reached]
    if not losses or not wrt:
        return None
    model = gradient_model(graph, wrt, losses=losses, kept=[] if classes is None else [classes.tensor])
    return StatisticsGradients(model, engine(model.model), norms, classes, heads)


def _sources(graph: Graph, tensors: Sequence[str]) -> set[str]:
    """All that ``tensors`` depend on."""
    found = {*tensors}
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found


def _recorded(before: Graph, graph: Graph, tuning: SampleMatchingTuning) -> Iterator[RecordedStatistics]:
    """What the norms of ``before`` recorded, of tensors of the folded ``graph``."""
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.outputs)}
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
            yield RecordedStatistics(seen, mean, variance, rank, tuning.dead, tuning.floor)


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
    asked = [_to_classes(classes, one, 0.0) for one in none]
    logits = [
        np.asarray(gradients.run({**batch, **given.inputs})[classes.tensor]).reshape(count, -1)
        for batch, given, count in zip(batches, asked, counts, strict=True)
    ]
    if not all(np.isfinite(one).all() for one in logits):
        return asked
    found = class_targets(np.concatenate(logits), tuning)
    if found is None:
        return asked
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
