"""Provides the weight variants on which statistics are taken, with as many samples as fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from passes.axes.inference import Typing
from passes.cost.cost import sample_macs
from passes.graph.model import Graph
from passes.interface.engine import share_threads
from passes.interface.errors import RunError
from passes.numerics.arrays import samples_in
from passes.numerics.tuning import NUMERICS
from passes.reconstruction.solver_memory import layer_memory
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.matched_samples import matched_samples
from passes.samples.sample_batches import cut_into_batches, fixed_batch, samples_together, with_sample_shapes
from passes.samples.sample_files import folder_of
from passes.samples.sample_need import covers_features
from passes.settings.statistics_tuning import MemoryTuning
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.activation_memory import activations, weight_bytes
from passes.statistics.batchnorm_recalibration import restandardised
from passes.statistics.sample_budget import Budget
from passes.weights.stored_tensors import storing


class WeightVariants:
    """The weight variants of a model. ``before``: model with BatchNormalization; ``typing``: of the folded model."""

    def __init__(self, before: Graph, typing: Typing, samples: CalibrationSamples, tuning: Tuning = TUNING) -> None:
        self._tuning = tuning
        self._counted = with_sample_shapes(typing.graph, samples)
        given = sum(array.nbytes for array in samples.feeds.values() if folder_of(array) is None)
        layers = layer_memory(replace(typing, graph=self._counted), samples.count, tuning)
        weights, each = weight_bytes(typing.graph), activations(self._counted)
        if any(folder_of(array) is not None for array in samples.feeds.values()):  # copies are those of a batch
            each = replace(each, given=0.0)
        fixed = fixed_batch(typing.graph, samples)
        most, unit = fixed or tuning.memory.batch, fixed or samples_together(typing.graph, samples.feeds)
        cores = 1 if storing() else share_threads(samples.engine, _parts_of(self._counted, most))[1]
        memory = max(0, samples.memory - given)
        limits = _memory(tuning)
        self._budget = Budget(memory, weights, each, layers, most, tuning=limits, cores=cores, unit=unit)
        self._moment_limit = self._budget.moment_limit  # moments and targets are in the host's memory
        if samples.on_device > samples.memory:
            self._budget = replace(self._budget, memory=samples.on_device)
        worth = _worth(self._counted, tuning)
        scratch, in_memory = samples.scratch, self._budget.samples
        alone = replace(self._budget, cores=1)  # batches in files run one by one
        stored = 0 if scratch is None else alone.samples_stored(scratch.room)
        # What is kept on disk takes longer: it is for all samples that the user gave, but only few made-up ones.
        room = max(in_memory, stored if samples.real else min(stored, tuning.reconstruction.fewest_made_up))
        affordable = min(in_memory, worth), room if samples.real else 0
        samples, notes = _enlarged(replace(typing, graph=self._counted), samples, *affordable, tuning)
        if in_memory < min(samples.count, stored):
            self._budget = alone
        self.feeds, sampling = cut_into_batches(typing.graph, samples, room, self._budget.batch, worth, tuning)
        used = sum(map(samples_in, self.feeds))
        self._folder = scratch.folder if scratch is not None and used > in_memory else None
        if self._folder is not None:
            sampling += (f"what {used} samples make of the layers does not fit `memory`: it is kept on disk",)
        self.notes = sampling + notes
        self.lacking = "too few samples to reconstruct from: merged by weights"
        """Why there are no variants, if there are none."""
        unit = samples_together(typing.graph, samples.feeds)
        if samples.count and room < unit:
            what = "a few samples take" if unit == 1 else f"a batch of {unit} samples takes"
            needed = f"{math.ceil(self._budget.needed(unit) / 1e8) / 10:g}GB"
            self.lacking = f"merged by weights: what {what} does not fit `memory`; {needed} would do"
        self._distinct = min(1.0, samples.count / max(1, sum(map(samples_in, self.feeds))))
        self._before, self._typing = before, typing
        self._samples: CalibrationSamples | None = samples
        self._found: list[WeightVariant] | None = None

    def __getstate__(self) -> dict[str, object]:
        """State for another process. The samples are left out once the variants exist."""
        return {**vars(self), "_samples": self._samples if self._found is None else None}

    def __iter__(self) -> Iterator[WeightVariant]:
        """The variants in the order of preference. The last one has the model's own weights. Empty if there are too few
        samples."""
        if self._found is None:
            fewest = self._tuning.reconstruction.fewest_distinct
            several = self._distinct * sum(map(samples_in, self.feeds)) >= fewest
            self._found, unused = self._make() if several else ([], ())
            self.notes += unused
            self._samples = None
        return iter(self._found)

    def _make(self) -> tuple[list[WeightVariant], tuple[str, ...]]:
        """The variants, and notes: that samples were moved, and why the recalibrated variant is missing."""
        samples, budget = self._samples, self._budget
        assert samples is not None  # they are dropped once variants exist
        used, size = sum(map(samples_in, self.feeds)), samples_in(self.feeds[0])
        dynamic = fixed_batch(self._typing.graph, samples) is None
        joined = max(1, min(self._tuning.memory.batch, used // 2) // size) if dynamic else 1
        room, moment_limit = budget.kept(used), self._moment_limit
        workers = 1 if self._folder is not None else budget.workers
        shares = (room, moment_limit, self._counted, joined, self._distinct, self._folder, workers)
        given = (samples.engine, *shares, self._tuning)
        left, notes = (0.0, ()) if samples.real else self._matched(samples)
        own = WeightVariant(self._typing, self.feeds, *given, scratch=samples.scratch)
        if left <= self._tuning.matching.matched:
            return [own], notes
        try:
            normed = restandardised(self._before, self._typing, self.feeds, samples.engine, budget.normed)
        except RunError as error:
            return [own], (*notes, f"the statistics of BatchNormalization were not used: {error}")
        if normed is None:
            return [own], notes
        return [WeightVariant(normed, self.feeds, *given, recalibrated=True, scratch=samples.scratch), own], notes

    def _matched(self, samples: CalibrationSamples) -> tuple[float, tuple[str, ...]]:
        """Move the made-up samples to the recorded statistics. Returns what is left of the deviation, infinity where
        they stay as they are, and notes."""
        if storing():  # the weights of large models are not read three times a step
            return math.inf, ()
        limits, made = self._tuning.matching, sum(map(samples_in, self.feeds))
        if not covers_features(replace(self._typing, graph=self._counted), limits.fewest_samples):
            limits = replace(limits, fewest_samples=made)  # layers need all of them
        graphs, memory = (self._before, self._counted), self._budget.memory / 2  # nothing else is held yet
        found = matched_samples(*graphs, self.feeds, samples.engine, memory, limits, samples.effort)
        if found is None:
            return math.inf, ()
        used = sum(map(samples_in, found.feeds))
        few, rest = (f"{used} of {made} ", "; the others are left out") if used < made else ("", "")
        self.feeds, (first, last) = found.feeds, found.deviations
        aim = (
            "recorded statistics hold better"
            if found.recorded
            else "the model's scores are those of classes or objects"
        )
        moved = f"{few}made-up samples were moved until {aim}: {first:.3g} -> {last:.3g} off{rest}"
        return last if found.recorded else 0.0, (moved,) if last < first else ()


def _memory(tuning: Tuning) -> MemoryTuning:
    """The tuning of the memory. Where weights are stored, matrices are too: only those of one group are in memory."""
    kept = tuning.memory
    if not storing():
        return kept
    return replace(kept, statistics_bytes=0, row_bytes=0, covariance_bytes=kept.stored_covariance_bytes)


def _enlarged(
    typing: Typing, samples: CalibrationSamples, affordable: int, storable: int, tuning: Tuning
) -> tuple[CalibrationSamples, tuple[str, ...]]:
    """Request more samples until every layer is determined or ``affordable`` samples are reached, and once where there
    are few, up to ``storable`` ones. Returns a note too.

    ``typing``: with the shapes of samples.
    """
    count, notes = samples.count, tuple[str, ...]()
    scarce = count < tuning.reconstruction.doubling_limit
    for request in samples.more_samples:
        determined = covers_features(typing, samples.count)
        wanted = not determined and 2 * samples.count <= affordable
        if not wanted and not (scarce and samples.count == count and 2 * count <= storable):
            break
        feeds, what = request()
        larger = replace(samples, feeds=feeds)
        if larger.count > samples.count:
            samples = larger
            why = "are few" if determined else "show some layer fewer places than it has inputs"
            notes = (f"{what}: {count} {why}",)
    return replace(samples, more_samples=()), notes


def _parts_of(graph: Graph, batch: int) -> int:
    """Most parts of a batch that are worth a thread each. ``graph``: with the shapes of samples."""
    return max(1, int(batch * sample_macs(graph) / NUMERICS.parallel.multiply_adds))


def _worth(graph: Graph, tuning: Tuning) -> int:
    """Largest number of made-up samples, by their run time. ``graph``: with the shapes of samples."""
    limits = tuning.reconstruction
    return max(limits.fewest_made_up, int(limits.made_up_multiply_adds / sample_macs(graph)))
