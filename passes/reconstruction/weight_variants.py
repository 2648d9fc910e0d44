"""The weights that samples go through, and what they show of the channels: found once, for any number of results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.statistics import ChannelStatistics
from passes.cost.cost import cost, samples_held
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows
from passes.reconstruction.solver_memory import layer_moments
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.sizes import Size
from passes.statistics.activation_memory import WIDTH, activations, at_sizes_of, weight_bytes
from passes.statistics.batchnorm_recalibration import restandardised, samples_in
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.observer import Batches, observe_channels
from passes.statistics.sample_budget import Budget
from passes.statistics.sample_need import MoreSamples, covers_features
from passes.statistics.segmented_execution import Feeds, Recording, SegmentedRun


@dataclass(frozen=True)
class CalibrationSamples:
    """``feeds``: input -> (N, ...); ``real``: whether they are of the data that the model is for; ``engine`` runs
    models; ``memory``: bytes that activations may take; ``further``: more samples where these are few, each twice as
    many as the one before."""

    feeds: Mapping[str, Array]
    real: bool
    engine: Engine
    memory: int = 2 * 10**9
    further: Sequence[MoreSamples] = ()

    @property
    def count(self) -> int:
        """N."""
        return min((len(a) for a in self.feeds.values() if has_rows(a)), default=0)


@dataclass(eq=False)
class WeightVariant:
    """``typing``: the folded model with the weights that ``feeds``, batches of inputs, go through; ``room``: bytes that
    what is remembered of them may take; ``piece``: bytes that the moments of a layer may take; ``counted``: the same
    model with shapes as they are on a sample, for counting only; ``joined``: batches that may be looked at together,
    where they are small only for what the widest layer takes; ``distinct``: share of the samples that are no
    repetitions of others."""

    typing: Typing
    feeds: Feeds
    engine: Engine
    room: float = 0.0
    piece: float = math.inf
    counted: Graph | None = None
    joined: int = 1
    distinct: float = 1.0
    tuning: Tuning = TUNING
    _knowledge: dict[str, ChannelStatistics] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _targets: Recording | None = None
    _cuts: Sequence[tuple[int, frozenset[str]]] = ()
    """Where the model was cut when the targets were recorded. The last cut wants all of them."""

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process. It records the targets again, with the same cuts and so the same rounding."""
        return {**vars(self), "_targets": None}

    @property
    def sized(self) -> Typing:
        """``typing`` with shapes as they are on samples, for counting only."""
        return self.typing if self.counted is None else replace(self.typing, graph=self.counted)

    @property
    def apart(self) -> int:
        """How many of the batches, the first ones, losses are measured on: a quarter of the samples, or as many as are
        enough."""
        tuning = self.tuning.sensitivity
        most = math.ceil(tuning.most_samples / samples_in(self.feeds[0]))
        count = min(math.ceil(len(self.feeds) / tuning.sample_share), most)
        return max(1, count)

    def original(self) -> SegmentedRun | Recording:
        """The model on its way from layer to layer, or what it gave there, where that was kept."""
        run = SegmentedRun(self.typing.graph.model, self.feeds, self.engine)
        if self._targets is None and self._cuts:
            for to, wanted in self._cuts:
                run.advance(to, wanted)
            self._targets = run.record(self._cuts[-1][1])
        return self._targets or run

    def knowledge(self, groups: Sequence[ChannelGroup]) -> dict[str, ChannelStatistics]:
        """Group name -> what the samples show of it; of ``groups`` that were not asked for before, by one run."""
        new = [group for group in groups if group.name not in self._asked]
        if new:
            flow = SegmentedRun(self.typing.graph.model, self.feeds, self.engine)
            targets = set() if self._asked else self._worth_keeping()
            batches = Batches([samples_in(feed) for feed in self.feeds], self.apart, self.distinct)
            found = observe_channels(self.typing, new, flow, batches, self.engine, targets, self.tuning)
            self._knowledge.update(found)
            if targets:
                self._targets = flow.record(targets)
                self._cuts = [*flow.cuts, (flow.at, frozenset(targets))]
            self._asked.update(group.name for group in new)
        return self._knowledge

    def _worth_keeping(self) -> set[str]:
        """What layers are aimed at, if there is room for all of it."""
        graph = self.sized.graph
        names = {name for layer in solvable_layers(self.typing).values() for name in (layer.output, *layer.others)}
        each = sum(WIDTH * math.prod(graph.shape(name) or (math.inf,)) for name in names) / samples_held(graph)
        return names if each * sum(map(samples_in, self.feeds)) <= self.room else set()


class WeightVariants:
    """``before`` is the model with its BatchNormalization, ``typing`` that of the folded one."""

    def __init__(self, before: Graph, typing: Typing, samples: CalibrationSamples, tuning: Tuning = TUNING) -> None:
        self._tuning = tuning
        self._counted = _counted(typing.graph, samples)
        given = sum(array.nbytes for array in samples.feeds.values())
        moments = layer_moments(replace(typing, graph=self._counted), samples.count, tuning)
        weights, each = weight_bytes(typing.graph), activations(self._counted)
        most = _fixed_batch(typing.graph, samples) or tuning.memory.batch
        self._budget = Budget(max(0, samples.memory - given), weights, each, moments, most, tuning.memory)
        worth = _worth(self._counted, tuning)
        samples, notes = _enlarged(replace(typing, graph=self._counted), samples, min(self._budget.samples, worth))
        self.feeds, few = batches(typing.graph, samples, self._budget, worth, tuning)
        self.notes = few + notes
        self.lacking = "too few samples to reconstruct from: merged by weights"
        """Why there are no views, where there are none."""
        unit = samples_together(typing.graph, samples.feeds)
        if samples.count and self._budget.samples < unit:
            what = "a few samples take" if unit == 1 else f"a batch of {unit} samples takes"
            room = f"{math.ceil(self._budget.needed(unit) / 1e8) / 10:g}GB"
            self.lacking = f"merged by weights: what {what} does not fit --memory-limit; {room} would do"
        self._distinct = min(1.0, samples.count / max(1, sum(map(samples_in, self.feeds))))
        self._before, self._typing = before, typing
        self._samples: CalibrationSamples | None = samples
        self._found: list[WeightVariant] | None = None

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process: the samples themselves do not go where they have served."""
        return {**vars(self), "_samples": self._samples if self._found is None else None}

    def __iter__(self) -> Iterator[WeightVariant]:
        """The ways to look at the model, the most telling first; the last is the model's own. None if there are too
        few samples."""
        if self._found is None:
            fewest = self._tuning.reconstruction.fewest_distinct
            several = self._distinct * sum(map(samples_in, self.feeds)) >= fewest
            self._found, unused = self._make() if several else ([], ())
            self.notes += unused
            self._samples = None
        return iter(self._found)

    def _make(self) -> tuple[list[WeightVariant], tuple[str, ...]]:
        """The variants, and why one is missing."""
        samples, budget = self._samples, self._budget
        assert samples is not None  # as long as nothing is found
        used, size = sum(map(samples_in, self.feeds)), samples_in(self.feeds[0])
        free = _fixed_batch(self._typing.graph, samples) is None
        joined = max(1, min(self._tuning.memory.batch, used // 2) // size) if free else 1
        room, piece = budget.kept(used), budget.piece
        given = (samples.engine, room, piece, self._counted, joined, self._distinct, self._tuning)
        own = WeightVariant(self._typing, self.feeds, *given)
        if samples.real:
            return [own], ()
        try:
            normed = restandardised(self._before, self._typing, self.feeds, samples.engine, budget.normed)
        except RunError as error:
            return [own], (f"the statistics of BatchNormalization were not used: {error}",)
        return ([own] if normed is None else [WeightVariant(normed, self.feeds, *given), own]), ()


def batches(
    graph: Graph, samples: CalibrationSamples, budget: Budget, worth: int, tuning: Tuning = TUNING
) -> tuple[list[dict[str, Array]], tuple[str, ...]]:
    """Samples cut into the batches that go through together, as many as fit into memory; ``worth``: made-up samples
    that are worth their time.

    Where a batch holds more than half of the samples, there is one: of samples spread over all of them, each repeated
    if they are fewer.
    """
    feeds, count = samples.feeds, samples.count
    fixed = _fixed_batch(graph, samples)
    room, worth = budget.samples, count if samples.real else worth
    used = min(count, room, worth)
    unit = fixed or samples_together(graph, feeds)
    size = fixed or max(1, min(budget.batch, _part(used, tuning.sensitivity.sample_share)) // unit) * unit
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
    cut = feeds if len(rows) == count == used else {n: a[rows] if has_rows(a) else a for n, a in feeds.items()}
    starts = range(0, taken, size)
    return [{n: a[i : min(i + size, taken)] if has_rows(a) else a for n, a in cut.items()} for i in starts], notes


def _spread(count: int, used: int) -> Array:
    """So many of ``count`` samples, spread over all."""
    return np.linspace(0, count - 1, used).astype(int) if used else np.zeros(0, int)


def _one_batch(count: int, unit: int, fixed: bool) -> Array:
    """Samples for one batch of ``unit`` of them: spread over all, or the first where the batch is not ``fixed`` but
    holds clips. Fewer are repeated, one after the other, so that the halves of the batch share none or one."""
    return np.arange(unit) * (count if fixed else min(count, unit)) // unit


def _part(count: int, share: int) -> int:
    """One of ``share`` of the samples, or half where they are very few; an even number, since mirror images stand next
    to their images."""
    part = count // share
    return part - part % 2 if part > 1 else max(1, count // 2)


def samples_together(graph: Graph, feeds: Mapping[str, Array]) -> int:
    """Samples of which batches are multiples: the batch where it is fixed; else as at all sizes at which the model was
    seen to run, if they are several, for instance 8 where it takes clips of 8 frames."""
    name = next((n for n in feeds if has_rows(feeds[n])), None)
    if graph.info.rigid or name is None:
        return 1
    batch = graph.info.sizes[name][0]
    if isinstance(batch, Size):
        return max(1, math.gcd(*batch.at))
    return 1 if (name, 0) in graph.info.dynamic else max(1, int(batch))


def _fixed_batch(graph: Graph, samples: CalibrationSamples) -> int | None:
    """Samples that must go through together; None where their number is free."""
    if graph.info.rigid:
        return 1
    dynamic, feeds = graph.info.dynamic, samples.feeds
    return next((graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in dynamic), None)


def _counted(graph: Graph, samples: CalibrationSamples) -> Graph:
    """``graph`` with the shapes that one of the samples has, or as many as its fixed batch holds."""
    if not samples.count:
        return graph
    rows = np.arange(samples_together(graph, samples.feeds)) % samples.count
    one = {n: a[rows] if has_rows(a) else a for n, a in samples.feeds.items()}
    return at_sizes_of(graph, one, samples.engine, samples.memory)


def _enlarged(
    typing: Typing, samples: CalibrationSamples, affordable: int
) -> tuple[CalibrationSamples, tuple[str, ...]]:
    """With as many samples as the layers have use for, if there are more and they can be afforded; and a note of it.
    ``typing``: with shapes as they are on samples."""
    count, notes = samples.count, tuple[str, ...]()
    for further in samples.further:
        if 2 * samples.count > affordable or covers_features(typing, samples.count):
            break
        feeds, what = further()
        larger = replace(samples, feeds=feeds)
        if larger.count > samples.count:
            samples = larger
            notes = (
                f"{what}: {count} show some layer fewer places than it has inputs (--calib-samples {count}: no more)",
            )
    return replace(samples, further=()), notes


def _worth(graph: Graph, tuning: Tuning) -> int:
    """Samples that are worth their time, where nobody gave them. ``graph``: with shapes as they are on samples."""
    limits = tuning.reconstruction
    return max(limits.fewest_made_up, int(limits.made_up_multiply_adds / max(1, cost(graph).macs)))
