"""Moves the made-up samples on which results are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from onnx_merge.calibration.model_samples import ModelSamples
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.runtime.devices.device_runner import engine_of
from passes.analysis.analyse import Analysis
from passes.axes.inference import Typing
from passes.graph.model import Array, Graph
from passes.numerics.arrays import rows_between, samples_joined
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.matched_samples import matched_samples
from passes.samples.sample_batches import fixed_batch, samples_together, with_sample_shapes
from passes.settings.tuning import TUNING, Tuning
from passes.weights.stored_tensors import storing


def with_moved(samples: ModelSamples, analysis: Analysis) -> ModelSamples:
    """``samples``, where those that results are measured on are made up: with these moved, as those that layers are
    fitted to are.

    Layers are fitted to samples that look to the model like its training data. Errors on random ones, which excite the
    model otherwise, do not predict errors on real data.
    """
    original = samples.original
    if samples.real or original.session is None or not original.options.fits:
        return samples
    # At low effort: they are a quarter of those that are fitted to, and so take as many steps in a quarter of the time.
    feeds = samples.compared() if samples.measured is None else samples.measured.feeds
    made = CalibrationSamples(feeds, False, engine_of(original.provider), original.options.memory_limit)
    moved = matched_in_batches(analysis.before, analysis.typing, made)
    return samples if moved is None else replace(samples, measured=Samples(dict(moved)))


def matched_in_batches(
    before: Graph, typing: Typing, samples: CalibrationSamples, tuning: Tuning = TUNING
) -> Mapping[str, Array] | None:
    """``samples`` (N, ...), or the first of them, moved until what BatchNormalization recorded holds. None where they
    stay.

    ``before``: the model with BatchNormalization; ``typing``: of the folded model.
    """
    graph, feeds = typing.graph, samples.feeds
    unit, fewest = samples_together(graph, feeds), tuning.matching.fewest_compared
    size = fixed_batch(graph, samples) or (unit if unit > 1 else math.gcd(samples.count, fewest))
    if storing() or not samples.count or samples.count % size:
        return None
    parts = [rows_between(feeds, start, start + size) for start in range(0, samples.count, size)]
    counted, memory = with_sample_shapes(graph, samples), samples.memory / 2  # nothing else is held yet
    limits = replace(tuning.matching, fewest_samples=fewest)
    found = matched_samples(before, counted, parts, samples.engine, memory, limits, samples.effort)
    if found is None:
        return None
    return samples_joined(found.feeds)
