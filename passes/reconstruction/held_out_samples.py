"""Moves the made-up samples that results are compared on as those that layers are fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from passes.axes.inference import Typing
from passes.graph.model import Array, Graph
from passes.numerics.arrays import has_rows, rows_between
from passes.reconstruction.weight_variants import CalibrationSamples, fixed_batch, samples_together, with_sample_shapes
from passes.samples.matched_samples import matched_samples
from passes.settings.tuning import TUNING, Tuning
from passes.weights.stored_tensors import storing


def moved_held_out(
    before: Graph, typing: Typing, samples: CalibrationSamples, tuning: Tuning = TUNING
) -> Mapping[str, Array] | None:
    """``samples`` (N, ...), moved until the statistics that BatchNormalization recorded hold. None where they stay.

    ``before``: the model with BatchNormalization; ``typing``: of the folded model.
    """
    graph, feeds = typing.graph, samples.feeds
    unit = samples_together(graph, feeds)
    size = fixed_batch(graph, samples) or (unit if unit > 1 else samples.count)
    if storing() or not samples.count or samples.count % size:
        return None
    parts = [rows_between(feeds, start, start + size) for start in range(0, samples.count, size)]
    counted, memory = with_sample_shapes(graph, samples), samples.memory / 2  # nothing else is held yet
    found = matched_samples(before, counted, parts, samples.engine, memory, tuning.matching, samples.effort)
    if found is None:
        return None
    return {n: np.concatenate([part[n] for part in found.feeds]) if has_rows(a) else a for n, a in feeds.items()}
