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

from passes.cost.cost import cost
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.errors import NoGradientError
from passes.gradients.losses import RecordedStatistics
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows, rows_between
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.activation_memory import every_activation
from passes.statistics.batchnorm_recalibration import samples_in

Feed = dict[str, Array]


@dataclass(frozen=True)
class MatchedSamples:
    """``feeds``: batches of moved samples; ``deviations``: from the recorded statistics, before and after, the mean of
    `passes.gradients.losses.RecordedStatistics` over the norms."""

    feeds: list[Feed]
    deviations: tuple[float, float]


def matched_samples(
    before: Graph, counted: Graph, feeds: Sequence[Feed], engine: Engine, memory: float, tuning: SampleMatchingTuning
) -> MatchedSamples | None:
    """The samples ``feeds``, moved. None if the model has no norm or no gradient, if that would take too long, or
    if it gains little, as where the statistics belong to other weights.

    ``before``: the model with its BatchNormalization; ``counted``: with the shapes of a sample, for counting only;
    ``memory``: bytes of a step.
    """
    moved = [n for n, a in feeds[0].items() if has_rows(a) and a.dtype.kind == "f" and n in before.inputs]
    count = sum(map(samples_in, feeds))
    passes = tuning.multiply_adds / (tuning.passes * max(1, cost(counted).macs))
    steps = min(tuning.steps, int(passes / max(1, count)))
    if not moved or steps < tuning.fewest_steps:
        return None
    fixed = any((name, 0) not in before.info.dynamic for name in moved) or before.info.rigid
    size = samples_in(feeds[0]) if fixed else _batch(counted, memory, tuning)
    made: list[Feed] = []
    deviations: list[tuple[float, float]] = []
    try:
        model = _statistics_gradients(before, moved, _parts(feeds[0], size)[0], engine, tuning)
        if model is None:
            return None
        run = engine(model.model)
        for feed in feeds:
            found = [_moved(run, model, part, moved, steps, tuning) for part in _parts(feed, size)]
            made.append({**feed, **{name: np.concatenate([part[name] for part, _ in found]) for name in moved}})
            deviations += [deviation for _, deviation in found]
    except (NoGradientError, RunError):
        return None
    first, last = (float(value) for value in np.mean(deviations, axis=0))
    gained = math.isfinite(last) and last <= tuning.least_gain * first
    return MatchedSamples(made, (first, last)) if gained else None


def _statistics_gradients(
    before: Graph, moved: Sequence[str], feed: Feed, engine: Engine, tuning: SampleMatchingTuning
) -> GradientModel | None:
    """The model that computes the deviations of all norms and their gradients with respect to the inputs ``moved``."""
    graph = graph_at(before.model, feed, engine)
    losses = []
    for node in graph.nodes:
        if node.op != "BatchNormalization" or node.attrs.get("training_mode", 0):
            continue
        rank = len(graph.shape(node.inputs[0]) or ())
        if rank < 2 or not all(graph.knows(name) for name in node.inputs[3:5]):
            continue
        mean, variance = (graph.array(name).astype(np.float64) for name in node.inputs[3:5])
        if mean.ndim == 1:
            losses.append(RecordedStatistics(node.inputs[0], mean, variance, rank, tuning.dead, tuning.floor))
    return gradient_model(graph, list(moved), losses=losses) if losses else None


def _moved(
    run: Loaded, model: GradientModel, batch: Feed, names: Sequence[str], steps: int, tuning: SampleMatchingTuning
) -> tuple[Feed, tuple[float, float]]:
    """The inputs ``names`` with the least deviation on the way, and the deviations before and after."""
    now = {name: batch[name].astype(np.float32) for name in names}
    best, losses = dict(now), list[float]()
    sizes = {name: float(array.std()) or 1.0 for name, array in now.items()}
    first: dict[str, Array] = {name: np.zeros_like(array) for name, array in now.items()}
    second: dict[str, Array] = {name: np.zeros((len(array), *[1] * (array.ndim - 1))) for name, array in now.items()}
    for step in range(1, steps + 2):
        found = run({**batch, **now})
        loss = float(np.mean([found[name] for name in model.losses]))
        if not math.isfinite(loss):
            break
        if not losses or loss < min(losses):
            best = dict(now)
        losses.append(loss)
        if step > steps:
            break
        rate = tuning.rate * math.cos(math.pi / 2 * (step - 1) / steps)
        for name, array in now.items():
            slope = np.asarray(found[model.gradients[name]])
            first[name] = tuning.decay * first[name] + (1 - tuning.decay) * slope
            power = np.square(slope, dtype=np.float64).mean(tuple(range(1, slope.ndim)), keepdims=True)
            second[name] = np.asarray(tuning.decay * second[name] + (1 - tuning.decay) * power)
            scale = rate * sizes[name] / np.sqrt(second[name] * (1 - tuning.decay**step) + 1e-30)
            now[name] = (array - scale * first[name]).astype(np.float32)
    if not losses:
        return batch, (math.inf, math.inf)
    return {name: best[name].astype(batch[name].dtype) for name in names}, (losses[0], min(losses))


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
