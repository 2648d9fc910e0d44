"""A version of the weights, with its samples, channel statistics and place weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import onnx

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.statistics import ChannelStatistics
from passes.cost.cost import sample_macs, samples_held
from passes.graph.model import Graph
from passes.interface.engine import Engine
from passes.numerics.arrays import samples_in
from passes.reconstruction.place_weights import Maps, place_weights
from passes.samples.sample_batches import samples_together
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.activation_memory import WIDTH, every_activation
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.observer import Batches, observe_channels
from passes.statistics.segmented_execution import Feeds, Recording, SegmentedRun
from passes.statistics.tensor_store import ScratchSpace
from passes.weights.stored_tensors import storing


@dataclass(eq=False)
class WeightVariant:
    """A version of the folded model's weights, the samples that run through it, and their channel statistics.

    ``typing``: the folded model with these weights; ``feeds``: batches of inputs; ``room``: bytes for recorded targets;
    ``moment_limit``: bytes for the moments of a layer; ``counted``: the model with the shapes of a sample, for counting
    only; ``joined``: number of batches that may be joined, where only the widest layer requires small ones;
    ``distinct``: share of the samples that do not repeat others; ``folder``: where activations are kept in temporary
    files, None if they fit into memory; ``workers``: most batches that run at the same time; ``recalibrated``: whether
    norms standardise by the samples. The solution is then carried over to the model's own weights. ``scratch``: disk
    space for what would otherwise be computed again.
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
    scratch: ScratchSpace | None = None
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
        """This variant with the samples ``feeds``, a part of its own. The targets that were recorded for all of them
        are dropped."""
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
        """Weights of places by the gradients of the outputs, computed once (`passes.reconstruction.place_weights`)."""
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
