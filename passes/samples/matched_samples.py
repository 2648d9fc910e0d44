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
from passes.gradients.losses import RecordedStatistics
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows, rows_between
from passes.settings.sample_tuning import SampleMatchingTuning
from passes.statistics.activation_memory import every_activation
from passes.statistics.batchnorm_recalibration import samples_in
from passes.transforms.fold_batchnorm import fold_batchnorm

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
    serves = last <= max(min(tuning.least_gain * first, tuning.unfit), tuning.close)
    return MatchedSamples(made, (first, last)) if serves else None


def _statistics_gradients(
    before: Graph, moved: Sequence[str], feed: Feed, engine: Engine, tuning: SampleMatchingTuning
) -> GradientModel | None:
    """The model that computes the deviations of all norms and their gradients with respect to the inputs ``moved``.

    Norms are folded into the layers before them, and the deviations are of what these compute: a step has fewer
    operations, forward and backward.
    """
    graph = graph_at(fold_batchnorm(before).model, feed, engine)
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.outputs)}
    losses = []
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
    return gradient_model(graph, list(moved), losses=losses) if losses else None


def _moved(
    run: Loaded, model: GradientModel, batch: Feed, names: Sequence[str], steps: int, tuning: SampleMatchingTuning
) -> tuple[Feed, tuple[float, float]]:
    """The inputs ``names`` with the least deviation on the way, and the deviations before and after.

    Steps follow the mean of the gradients so far. Their size, relative to the spread of the inputs, grows as long as
    the deviation falls. Where it rises, the step is taken back, and the next one is shorter.
    """
    best = {name: batch[name].astype(np.float32) for name in names}
    sizes = {name: float(array.std()) or 1.0 for name, array in best.items()}
    now, rate, losses = dict(best), tuning.rate, list[float]()
    slopes: dict[str, Array] = {}
    ways: dict[str, Array] = {}
    for _ in range(steps + 1):
        found = run({**batch, **now})
        loss = float(np.mean([found[name] for name in model.losses]))
        if math.isfinite(loss) and loss < min(losses, default=math.inf):
            rate *= tuning.rise if losses else 1.0
            losses.append(loss)
            best, slopes = dict(now), {name: np.asarray(found[model.gradients[name]]) for name in names}
            ways = {n: tuning.decay * ways[n] + (1 - tuning.decay) * a if n in ways else a for n, a in slopes.items()}
        elif losses:
            rate, ways = rate * tuning.fall, slopes
        else:
            return batch, (math.inf, math.inf)
        if losses[-1] <= tuning.close:
            break
        for name, way in ways.items():
            power = np.square(way, dtype=np.float64).mean(tuple(range(1, way.ndim)), keepdims=True)
            now[name] = (best[name] - rate * sizes[name] * way / np.sqrt(power + 1e-30)).astype(np.float32)
    return {name: best[name].astype(batch[name].dtype) for name in names}, (losses[0], losses[-1])


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
