"""The gradients of what models recorded in training, and of their scores, with respect to made-up samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.rules.norm import batchnorm_affine
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.losses import KullbackLeibler, RecordedStatistics, ScalarLoss
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded, retaining
from passes.numerics.arrays import samples_in
from passes.samples.class_targets import ClassScores, class_scores
from passes.samples.dense_scores import ScoreHead, score_heads
from passes.settings.sample_tuning import SampleMatchingTuning
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
        """Weight of one sample's score divergence in the objective; each norm's deviation has weight 1."""
        return (tuning.score_weight * self.norms if self.norms else 1.0) / count

    def close(self, scores: bool, tuning: SampleMatchingTuning) -> float:
        """Value at which samples are no longer moved. ``scores``: whether it counts those."""
        return tuning.score_close if self.norms and scores else tuning.close


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
        classes = class_scores(graph, samples_in(feed))
        heads = score_heads(graph, samples_in(feed)) if classes is None else []
        losses += [head.loss for head in heads]
    if classes is not None:
        losses.append(KullbackLeibler(classes.tensor, TARGET, WEIGHT, axis=1))
    reached = _sources(graph, [loss.tensor for loss in losses])
    wrt = [name for name in moved if name in reached]
    if not losses or not wrt:
        return None
    model = gradient_model(graph, wrt, losses=losses, kept=[] if classes is None else [classes.tensor])
    return StatisticsGradients(model, retaining(engine)(model.model), norms, classes, heads)


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
