"""Cuts samples into the batches that a model can run on."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from passes.graph.model import Array, Graph
from passes.numerics.arrays import has_rows, rows_between
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.sample_files import samples_at
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.sizes import Size
from passes.statistics.activation_memory import at_sizes_of


def cut_into_batches(
    graph: Graph, samples: CalibrationSamples, room: int, batch: int, worth: int, tuning: Tuning = TUNING
) -> tuple[list[dict[str, Array]], tuple[str, ...]]:
    """Cut samples into batches, as many as fit, and return notes for the user.

    ``room``: number of samples that fit; ``batch``: largest size of a batch; ``worth``: largest number of made-up
    samples, which bounds their time. Where a batch holds more than half of the samples, there is only one batch. Its
    samples are spread evenly over all samples, or repeated if there are fewer.
    """
    feeds, count = samples.feeds, samples.count
    fixed = fixed_batch(graph, samples)
    worth = count if samples.real else worth
    used = min(count, room, worth)
    unit = fixed or samples_together(graph, feeds)
    size = fixed or max(1, min(batch, _part(used, tuning.sensitivity.sample_share)) // unit) * unit
    single = bool(count) and used < 2 * unit <= 2 * room
    rows = _one_batch(count, unit, fixed is not None) if single else _spread(count, used)
    taken = len(rows) // unit * unit
    notes: tuple[str, ...] = ()
    if taken and tuning.reconstruction.fewest_distinct <= count < 2 * unit and count != unit:
        notes = (f"reconstructed from one batch of {unit}, for which {count} samples served: {2 * unit} make two",)
    elif taken and min(count, worth) > room:
        notes = (f"reconstructed from {taken} of {count} samples: more activations do not fit `memory`",)
    elif taken and count > worth:
        notes = (f"reconstructed from {taken} of {count} made-up samples: more take long for a model of this size",)
    cut = feeds if len(rows) == count == used else samples_at(feeds, rows)
    starts = range(0, taken, size)
    return [rows_between(cut, i, min(i + size, taken)) for i in starts], notes


def _spread(count: int, used: int) -> Array:
    """Indices of ``used`` samples, spread evenly over ``count``."""
    return np.linspace(0, count - 1, used).astype(int) if used else np.zeros(0, int)


def _one_batch(count: int, unit: int, fixed: bool) -> Array:
    """Indices of the samples of a single batch of size ``unit``.

    With a ``fixed`` batch they are spread evenly over all samples. Otherwise the batch holds clips and has the first
    samples. If there are fewer, each is repeated next to itself, so that the halves of the batch share at most one.
    """
    return np.arange(unit) * (count if fixed else min(count, unit)) // unit


def _part(count: int, share: int) -> int:
    """One sample in ``share``, or half of them where they are very few.

    The part is made even if it is above 1, since mirror images are next to their images.
    """
    part = count // share
    return part - part % 2 if part > 1 else max(1, count // 2)


def samples_together(graph: Graph, feeds: Mapping[str, Array]) -> int:
    """The number of which batch sizes must be multiples.

    It is the batch size where that is fixed. Otherwise it is the greatest common divisor of the batch sizes at which
    the model was observed to run, for instance 8 for clips of 8 frames.
    """
    name = next((n for n in feeds if has_rows(feeds[n])), None)
    if graph.info.rigid or name is None:
        return 1
    if _uneven(feeds):
        return _samples_of_run(graph, feeds)
    batch = graph.info.sizes[name][0]
    if isinstance(batch, Size):
        return max(1, math.gcd(*batch.at))
    return 1 if (name, 0) in graph.info.dynamic else max(1, int(batch))


def fixed_batch(graph: Graph, samples: CalibrationSamples) -> int | None:
    """The fixed batch size; None if it is dynamic."""
    if graph.info.rigid:
        return 1
    dynamic, feeds = graph.info.dynamic, samples.feeds
    if _uneven(feeds):
        return _samples_of_run(graph, feeds)
    return next((graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in dynamic), None)


def _uneven(feeds: Mapping[str, Array]) -> bool:
    """Whether a sample takes several rows of some input: then the axis of batches is another one there, if there is
    one, and a run takes a single sample."""
    return len({len(a) for a in feeds.values() if has_rows(a)}) > 1


def _samples_of_run(graph: Graph, feeds: Mapping[str, Array]) -> int:
    """Samples (see `sample_count`) of a run where some take several rows."""
    fixed = [graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in graph.info.dynamic]
    return math.gcd(*fixed) if all((n, 0) not in graph.info.dynamic for n in feeds if has_rows(feeds[n])) else 1


def with_sample_shapes(graph: Graph, samples: CalibrationSamples) -> Graph:
    """``graph`` with the shapes for one sample, or for as many as a batch must hold."""
    if not samples.count:
        return graph
    rows = np.arange(samples_together(graph, samples.feeds)) % samples.count
    return at_sizes_of(graph, samples_at(samples.feeds, rows), samples.engine, samples.memory)
