"""Provides the weight variants on which statistics are taken, with their samples and channel statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.statistics import ChannelStatistics
from passes.cost.cost import sample_macs, samples_held
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, divided
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows, rows_between, sample_count
from passes.numerics.tuning import NUMERICS
from passes.reconstruction.place_weights import Maps, place_weights
from passes.reconstruction.solver_memory import layer_moments
from passes.samples.matched_samples import matched_samples
from passes.samples.sample_files import folder_of, samples_at
from passes.samples.sample_need import MoreSamples, covers_features
from passes.settings.statistics_tuning import MemoryTuning
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.sizes import Size
from passes.statistics.activation_memory import WIDTH, activations, at_sizes_of, every_activation, weight_bytes
from passes.statistics.batchnorm_recalibration import restandardised, samples_in
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.observer import Batches, observe_channels
from passes.statistics.sample_budget import Budget
from passes.statistics.segmented_execution import Feeds, Recording, SegmentedRun
from passes.statistics.tensor_store import ScratchSpace
from passes.weights.stored_tensors import storing


@dataclass(frozen=True)
class CalibrationSamples:
    """``feeds``: input name -> (N, ...); ``real``: whether they are real data and not made up; ``engine``: runs models;
    ``memory``: bytes that activations may take; ``more_samples``: functions that return more samples, each twice as
    many as the one before; ``scratch``: disk space for the activations that do not fit; ``on_device``: bytes of a
    device's own memory that activations may take there, 0 where they are in the host's; ``effort``: see
    `passes.settings.compress.EFFORTS`."""

    feeds: Mapping[str, Array]
    real: bool
    engine: Engine
    memory: int = 2 * 10**9
    more_samples: Sequence[MoreSamples] = ()
    scratch: ScratchSpace | None = None
    on_device: int = 0
    effort: str = "low"

    @property
    def count(self) -> int:
        """Number of samples N."""
        return sample_count(self.feeds)


@dataclass(eq=False)
class WeightVariant:
    """A version of the folded model's weights, the samples that run through it, and their channel statistics.

    ``typing``: the folded model with these weights; ``feeds``: batches of inputs; ``room``: bytes for recorded targets;
    ``moment_limit``: bytes for the moments of a layer; ``counted``: the model with the shapes of a sample, for counting
    only; ``joined``: number of batches that may be joined, where only the widest layer requires small ones;
    ``distinct``: share of the samples that do not repeat others; ``folder``: where activations are kept in temporary
    files, None if they fit into memory; ``workers``: most batches that run at the same time; ``recalibrated``: whether
    norms standardise by the samples. The solution is then carried over to the model's own weights.
    """

    typing: Typing
    feeds: Feeds
    engine: Engine
    room: float = 0.0
    moment_limit: float = math.inf
    counted: Graph | None = None
    joined: int = 1
    distinct: float = 1.0
    folder: str | None = None
    workers: int = 1
    tuning: Tuning = TUNING
    recalibrated: bool = False
    _statistics: dict[str, ChannelStatistics] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _places: Maps | None = None
    _targets: Recording | None = None
    _cuts: Sequence[tuple[int, frozenset[str]]] = ()
    """Where the model was cut when the targets were recorded. The last cut wants all of them."""

    def __getstate__(self) -> dict[str, object]:
        """State for another process, which records the targets again, with the same cuts and so the same rounding."""
        return {**vars(self), "_targets": None}

    @property
    def sized(self) -> Typing:
        """``typing`` with the shapes of samples, for counting only."""
        return self.typing if self.counted is None else replace(self.typing, graph=self.counted)

    @property
    def apart(self) -> int:
        """Number of first batches on which losses are measured.

        They hold one sample in `SensitivityTuning.sample_share`, at most `SensitivityTuning.most_samples`.
        """
        tuning = self.tuning.sensitivity
        most = math.ceil(tuning.most_samples / samples_in(self.feeds[0]))
        count = min(math.ceil(len(self.feeds) / tuning.sample_share), most)
        return max(1, count)

    def with_feeds(self, feeds: Feeds) -> WeightVariant:
        """The same variant with a part of the samples. The targets that were recorded for all of them are dropped."""
        self._targets = None
        return replace(self, feeds=feeds, _targets=None, _cuts=(), _places=None)

    def run(self, model: onnx.ModelProto, feeds: Feeds | None = None) -> SegmentedRun:
        """A run of ``model`` on ``feeds``, all samples if None."""
        return SegmentedRun(model, self.feeds if feeds is None else feeds, self.engine, self.folder, self.workers)

    def original(self) -> SegmentedRun | Recording:
        """A run of the original model, or its recorded targets if they were kept."""
        run = self.run(self.typing.graph.model)
        if self._targets is None and self._cuts:
            for to, wanted in self._cuts:
                run.advance(to, wanted)
            self._targets = run.record(self._cuts[-1][1])
        return self._targets or run

    def channel_statistics(self, groups: Sequence[ChannelGroup]) -> dict[str, ChannelStatistics]:
        """Group name -> channel statistics. One run computes them for those ``groups`` that have none yet."""
        new = [group for group in groups if group.name not in self._asked]
        if new:
            flow = self.run(self.typing.graph.model)
            targets = set() if self._asked else self._worth_keeping()
            batches = Batches([samples_in(feed) for feed in self.feeds], self.apart, self.distinct)
            found = observe_channels(self.typing, new, flow, batches, self.engine, targets, self.tuning)
            self._statistics.update(found)
            if targets:
                self._targets = flow.record(targets)
                self._cuts = [*flow.cuts, (flow.at, frozenset(targets))]
            self._asked.update(group.name for group in new)
        return self._statistics

    def place_weights(self) -> Maps:
        """See `passes.reconstruction.place_weights`."""
        if self._places is None:
            graph, tuning, count = self.sized.graph, self.tuning.places, sum(map(samples_in, self.feeds))
            unit = samples_together(self.typing.graph, self.feeds[0])
            room = self.moment_limit / max(1.0, tuning.activation_copies * every_activation(graph))
            takes_long = tuning.passes * count * sample_macs(graph) > tuning.multiply_adds
            together = 0 if takes_long or storing() else int(min(count, room)) // unit * unit
            self._places = place_weights(self.typing, self.feeds, self.engine, unit, together, tuning)
        return self._places

    def _worth_keeping(self) -> set[str]:
        """Names of all tensors that targets are computed from; empty if they do not fit in ``room``."""
        graph = self.sized.graph
        layers = solvable_layers(self.typing).values()
        names = {name for layer in layers for name in (layer.output, *layer.others, *(a.name for a in layer.around))}
        each = sum(WIDTH * math.prod(graph.shape(name) or (math.inf,)) for name in names) / samples_held(graph)
        return names if each * sum(map(samples_in, self.feeds)) <= self.room else set()


class WeightVariants:
    """The weight variants of a model. ``before``: model with BatchNormalization; ``typing``: of the folded model."""

    def __init__(self, before: Graph, typing: Typing, samples: CalibrationSamples, tuning: Tuning = TUNING) -> None:
        self._tuning = tuning
        self._counted = with_sample_shapes(typing.graph, samples)
        given = sum(array.nbytes for array in samples.feeds.values() if folder_of(array) is None)
        moments = layer_moments(replace(typing, graph=self._counted), samples.count, tuning)
        weights, each = weight_bytes(typing.graph), activations(self._counted)
        if any(folder_of(array) is not None for array in samples.feeds.values()):  # copies are those of a batch
            each = replace(each, given=0.0)
        fixed = fixed_batch(typing.graph, samples)
        most, unit = fixed or tuning.memory.batch, fixed or samples_together(typing.graph, samples.feeds)
        cores = 1 if storing() else divided(samples.engine, _parts_of(self._counted, most))[1]
        memory = max(0, samples.memory - given)
        limits = _memory(tuning)
        self._budget = Budget(memory, weights, each, moments, most, tuning=limits, cores=cores, unit=unit)
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
        self.feeds, sampling = batches(typing.graph, samples, room, self._budget.batch, worth, tuning)
        used = sum(map(samples_in, self.feeds))
        self._folder = scratch.folder if scratch is not None and used > in_memory else None
        if self._folder is not None:
            sampling += (f"what {used} samples make of the layers does not fit --memory-limit: it is kept on disk",)
        self.notes = sampling + notes
        self.lacking = "too few samples to reconstruct from: merged by weights"
        """Why there are no variants, if there are none."""
        unit = samples_together(typing.graph, samples.feeds)
        if samples.count and room < unit:
            what = "a few samples take" if unit == 1 else f"a batch of {unit} samples takes"
            needed = f"{math.ceil(self._budget.needed(unit) / 1e8) / 10:g}GB"
            self.lacking = f"merged by weights: what {what} does not fit --memory-limit; {needed} would do"
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
        own = WeightVariant(self._typing, self.feeds, *given)
        if left <= self._tuning.matching.matched:
            return [own], notes
        try:
            normed = restandardised(self._before, self._typing, self.feeds, samples.engine, budget.normed)
        except RunError as error:
            return [own], (*notes, f"the statistics of BatchNormalization were not used: {error}")
        return ([own] if normed is None else [WeightVariant(normed, self.feeds, *given, recalibrated=True), own]), notes

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
    return replace(kept, statistics_bytes=0, covariance_bytes=kept.stored_covariance_bytes) if storing() else kept


def batches(
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
        notes = (f"reconstructed from {taken} of {count} samples: more activations do not fit --memory-limit",)
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
        return _rows_of_run(graph, feeds)
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
        return _rows_of_run(graph, feeds)
    return next((graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in dynamic), None)


def _uneven(feeds: Mapping[str, Array]) -> bool:
    """Whether a sample takes several rows of some input: then the axis of batches is another one there, if there is
    one, and a run takes a single sample."""
    return len({len(a) for a in feeds.values() if has_rows(a)}) > 1


def _rows_of_run(graph: Graph, feeds: Mapping[str, Array]) -> int:
    """Samples (see `sample_count`) of a run where some take several rows."""
    fixed = [graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in graph.info.dynamic]
    return math.gcd(*fixed) if all((n, 0) not in graph.info.dynamic for n in feeds if has_rows(feeds[n])) else 1


def with_sample_shapes(graph: Graph, samples: CalibrationSamples) -> Graph:
    """``graph`` with the shapes for one sample, or for as many as a batch must hold."""
    if not samples.count:
        return graph
    rows = np.arange(samples_together(graph, samples.feeds)) % samples.count
    return at_sizes_of(graph, samples_at(samples.feeds, rows), samples.engine, samples.memory)


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
            notes = (f"{what}: {count} {why} (--calib-samples {count}: no more)",)
    return replace(samples, more_samples=()), notes


def _parts_of(graph: Graph, batch: int) -> int:
    """Most parts of a batch that are worth a thread each. ``graph``: with the shapes of samples."""
    return max(1, int(batch * sample_macs(graph) / NUMERICS.parallel.multiply_adds))


def _worth(graph: Graph, tuning: Tuning) -> int:
    """Largest number of made-up samples, by their run time. ``graph``: with the shapes of samples."""
    limits = tuning.reconstruction
    return max(limits.fewest_made_up, int(limits.made_up_multiply_adds / sample_macs(graph)))
