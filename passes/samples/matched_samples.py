"""Moves made-up samples by gradient until the statistics that BatchNormalization recorded hold in every layer.

Each norm recorded the mean and the variance of its input over the training data. Samples on which all norms see these
again resemble the training data to the network, whatever they look like (Yin et al., DeepInversion, CVPR 2020; Cai et
al., ZeroQ, CVPR 2020). The samples here are not made from noise but moved from images, which already have the
correlations of neighbouring pixels, and which a few steps therefore leave diverse.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.rules.norm import batchnorm_affine
from passes.cost.cost import cost
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.errors import NoGradientError
from passes.gradients.losses import KullbackLeibler, RecordedStatistics, ScalarLoss
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows, rows_between
from passes.numerics.lbfgs import minimise
from passes.samples.class_targets import ClassScores, class_scores, class_targets
from passes.settings.compress import EFFORTS
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.activation_memory import every_activation
from passes.statistics.batchnorm_recalibration import samples_in
from passes.transforms.fold_batchnorm import fold_batchnorm

Feed = dict[str, Array]
TARGET, WEIGHT = "made.target", "made.weight"
"""Inputs of the gradients: target probabilities of the classes, and their weights."""


@dataclass(frozen=True)
class MatchedSamples:
    """``feeds``: batches of moved samples; ``deviations``: from the recorded statistics, before and after, the mean of
    `passes.gradients.losses.RecordedStatistics` over the norms."""

    feeds: list[Feed]
    deviations: tuple[float, float]


def matched_samples(
    before: Graph,
    counted: Graph,
    feeds: Sequence[Feed],
    engine: Engine,
    memory: float,
    tuning: SampleMatchingTuning,
    effort: str = "low",
) -> MatchedSamples | None:
    """The samples ``feeds``, moved. None if the model has no norm or no gradient, if that would take too long, or
    if it gains little, as where the statistics belong to other weights.

    ``before``: the model with its BatchNormalization; ``counted``: with the shapes of a sample, for counting only;
    ``memory``: bytes of a step; ``effort``: see `passes.settings.compress`.
    """
    moved = [n for n, a in feeds[0].items() if has_rows(a) and a.dtype.kind == "f" and n in before.inputs]
    count = sum(map(samples_in, feeds))
    passes = tuning.multiply_adds[EFFORTS.index(effort)] / (tuning.passes * max(1, cost(counted).macs))
    steps = min(tuning.steps, int(passes / max(1, count)))
    if not moved or steps < tuning.fewest_steps:
        return None
    fixed = any((name, 0) not in before.info.dynamic for name in moved) or before.info.rigid
    size = samples_in(feeds[0]) if fixed else _batch(counted, memory, tuning)
    made: list[Feed] = []
    deviations: list[tuple[float, float]] = []
    try:
        model = _statistics_gradients(
            before, moved, _parts(feeds[0], size)[0], engine, tuning, steps >= tuning.class_steps
        )
        if model is None:
            return None
        for feed in feeds:
            found = [_moved(model, part, moved, steps, tuning) for part in _parts(feed, size)]
            made.append({**feed, **{name: np.concatenate([part[name] for part, _ in found]) for name in moved}})
            deviations += [deviation for _, deviation in found]
    except (NoGradientError, RunError):
        return None
    first, last = (float(value) for value in np.mean(deviations, axis=0))
    serves = last <= max(min(tuning.least_gain * first, tuning.unfit), tuning.close)
    return MatchedSamples(made, (first, last)) if serves else None


@dataclass(frozen=True)
class _Gradients:
    """``run``: of ``model``, which computes the deviations of all norms and then, of a classifier, the divergence of
    its ``scores`` from targets, and the gradients of their sum."""

    model: GradientModel
    run: Loaded
    scores: ClassScores | None


def _statistics_gradients(
    before: Graph, moved: Sequence[str], feed: Feed, engine: Engine, tuning: SampleMatchingTuning, classes: bool
) -> _Gradients | None:
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
    return _Gradients(model, engine(model.model), scores)


class _Objective:
    """The mean deviation of the norms on the samples ``batch``, plus the weighted divergence from targets, as a
    function of the inputs ``names``: one vector (D,), each input in units of about its spread."""

    def __init__(self, gradients: _Gradients, batch: Feed, names: Sequence[str], tuning: SampleMatchingTuning) -> None:
        self._gradients, self._batch = gradients, batch
        self._spreads = {name: _power_of_two(float(batch[name].std())) for name in names}
        self.start = np.concatenate([(batch[name] / spread).ravel() for name, spread in self._spreads.items()])
        self.start = self.start.astype(np.float32)
        self._targets: Feed = {}
        self._norms = len(gradients.model.losses) - (gradients.scores is not None)
        if gradients.scores is not None:
            self._targets = self._aims(gradients.scores, tuning)
        self.deviations: dict[float, float] = {}
        """Value -> the deviation alone."""

    @property
    def of_classes(self) -> bool:
        """Whether samples are moved to classes."""
        return any(self._targets[WEIGHT].flat[:1]) if self._targets else False

    def _aims(self, scores: ClassScores, tuning: SampleMatchingTuning) -> Feed:
        """Targets and their weights."""
        count = samples_in(self._batch)
        none = np.full((count, scores.classes), 1 / scores.classes)
        off = {TARGET: scores.line(none), WEIGHT: scores.line(np.zeros((count, 1)))}
        logits = np.asarray(self._gradients.run({**self._batch, **off})[scores.tensor])
        targets = class_targets(logits.reshape(count, -1), tuning) if np.isfinite(logits).all() else None
        if targets is None:
            return off
        weight = tuning.class_weight * self._norms / count
        return {TARGET: scores.line(targets), WEIGHT: scores.line(np.full((count, 1), weight))}

    def __call__(self, point: Array) -> tuple[float, Array]:
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


def _moved(
    gradients: _Gradients, batch: Feed, names: Sequence[str], steps: int, tuning: SampleMatchingTuning
) -> tuple[Feed, tuple[float, float]]:
    """The inputs ``names`` with the least deviation on the way, and the deviations before and after."""
    objective = _Objective(gradients, batch, names, tuning)
    close = tuning.class_close if objective.of_classes else tuning.close
    with np.errstate(over="ignore", invalid="ignore"):  # of steps that are too long, and are shortened
        found = objective.samples(minimise(objective, objective.start, tuning.first_step, steps + 1, close))
    values = list(objective.deviations)
    if not math.isfinite(values[0]):
        return batch, (math.inf, math.inf)
    first, last = (objective.deviations[value] for value in (values[0], min(values)))
    return {name: found[name].astype(batch[name].dtype) for name in names}, (first, last)


def _power_of_two(size: float) -> float:
    """The nearest one. To divide and multiply by it leaves samples that do not move as they are."""
    return math.ldexp(1.0, round(math.log2(size))) if 0 < size < math.inf else 1.0


def _batch(counted: Graph, memory: float, tuning: SampleMatchingTuning) -> int:
    """Samples that run together, forward and backward. Statistics are over a batch."""
    each = tuning.activation_copies * every_activation(counted)
    return max(1, min(tuning.batch, int(memory / max(1.0, each))))


def _parts(feed: Feed, size: int) -> list[Feed]:
    """A batch in parts of about equal numbers of samples, at most ``size``."""
    count = samples_in(feed)
    number = -(-count // size)
    edges = [count * k // number for k in range(number + 1)]
    return [rows_between(feed, *ends) for ends in itertools.pairwise(edges)]
