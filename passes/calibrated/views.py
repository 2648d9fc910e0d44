"""The weights that samples go through, and what they show of the channels: found once, for any number of results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from passes.calibrated.enough import Further, enough
from passes.calibrated.flow import Feeds, Flow, Recording
from passes.calibrated.knowledge import Knowledge, observe_channels
from passes.calibrated.layers import solvable_layers
from passes.calibrated.restandardise import restandardised, samples_in
from passes.cost import cost, samples_held
from passes.graph.engine import Engine
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Array, Graph
from passes.numerics.arrays import has_rows

BATCH = 32
"""Samples that go through the model together, where it leaves their number open."""
HELD = 4
"""Live activations of a sample that are held at once: two flows, their batch inside the runtime."""
NORMED = 10
"""The same while all samples go through the norms as arithmetic."""
KEPT = 0.25
"""Share of the memory that what the original gave its layers may take between its run and the solving."""
WORK = 4e11
"""Multiply-adds of a run over samples that nobody gave: large models get fewer of them."""
FEWEST = 32
"""Made-up samples that even the largest models get."""


@dataclass(frozen=True)
class Samples:
    """``feeds``: input -> (N, ...); ``real``: whether they are of the data that the model is for; ``engine`` runs
    models; ``memory``: bytes that activations may take; ``further``: more samples where these are few, each twice as
    many as the one before."""

    feeds: Mapping[str, Array]
    real: bool
    engine: Engine
    memory: int = 2 * 10**9
    further: Sequence[Further] = ()

    @property
    def count(self) -> int:
        """N."""
        return min((len(a) for a in self.feeds.values() if has_rows(a)), default=0)


@dataclass(eq=False)
class View:
    """``typing``: the folded model with the weights that ``feeds``, batches of inputs, go through; ``room``: bytes that
    what is remembered of them may take."""

    typing: Typing
    feeds: Feeds
    engine: Engine
    room: float = 0.0
    _knowledge: dict[str, Knowledge] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _targets: Recording | None = None

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process, which has samples' tensors of its own."""
        return {**vars(self), "_targets": None}

    def original(self) -> Flow | Recording:
        """The model on its way from layer to layer, or what it gave there, where that was kept."""
        return self._targets or Flow(self.typing.graph.model, self.feeds, self.engine)

    def knowledge(self, groups: Sequence[ChannelGroup]) -> dict[str, Knowledge]:
        """Group name -> what the samples show of it; of ``groups`` that were not asked for before, by one run."""
        new = [group for group in groups if group.name not in self._asked]
        if new:
            flow = Flow(self.typing.graph.model, self.feeds, self.engine)
            targets = set() if self._asked else self._worth_keeping()
            self._knowledge.update(observe_channels(self.typing, new, flow, self.engine, targets))
            if targets:
                self._targets = flow.record(targets)
            self._asked.update(group.name for group in new)
        return self._knowledge

    def _worth_keeping(self) -> set[str]:
        """What layers are aimed at, if there is room for all of it."""
        graph = self.typing.graph
        names = {name for layer in solvable_layers(self.typing).values() for name in (layer.output, *layer.others)}
        each = sum(4 * math.prod(graph.shape(name) or (math.inf,)) for name in names) / samples_held(graph)
        return names if each * sum(map(samples_in, self.feeds)) <= self.room else set()


class Views:
    """``before`` is the model with its BatchNormalization, ``typing`` that of the folded one."""

    def __init__(self, before: Graph, typing: Typing, samples: Samples) -> None:
        samples, notes = _enlarged(typing, samples)
        self.feeds, self.notes = batches(typing.graph, samples)
        self.notes += notes
        self._before, self._typing = before, typing
        self._samples: Samples | None = samples
        self._found: list[View] | None = None

    def __getstate__(self) -> dict[str, object]:
        """To be sent to another process: the samples themselves do not go where they have served."""
        return {**vars(self), "_samples": self._samples if self._found is None else None}

    def __iter__(self) -> Iterator[View]:
        """The ways to look at the model, the most telling first; the last is the model's own. None if there are too
        few samples."""
        if self._found is None:
            self._found = list(self._make()) if len(self.feeds) >= 2 else []
        return iter(self._found)

    def _make(self) -> Iterator[View]:
        samples = self._samples
        assert samples is not None  # as long as nothing is found
        each = max(1.0, _each(self._typing.graph))
        together = max(4, int(samples.memory / (NORMED * each)))
        held = HELD * each * sum(map(samples_in, self.feeds))
        room = min(KEPT * samples.memory, samples.memory - held)
        if not samples.real:
            normed = restandardised(self._before, self._typing, self.feeds, samples.engine, together)
            if normed is not None:
                yield View(normed, self.feeds, samples.engine, room)
        yield View(self._typing, self.feeds, samples.engine, room)


def batches(graph: Graph, samples: Samples) -> tuple[list[dict[str, Array]], tuple[str, ...]]:
    """Samples cut into the batches that go through together, as many as fit into memory."""
    feeds, count = samples.feeds, samples.count
    fixed = [graph.info.shapes[n][0] for n in feeds if has_rows(feeds[n]) and (n, 0) not in graph.info.dynamic]
    room = _room(graph, samples)
    worth = count if samples.real else _worth(graph)
    used = min(count, room, worth)
    size = 1 if graph.info.rigid else fixed[0] if fixed else max(1, min(BATCH, used // 2))
    notes: tuple[str, ...] = ()
    if min(count, worth) > room:
        notes = (f"reconstructed from {room} of {count} samples: more activations do not fit --memory-limit",)
    elif count > worth:
        notes = (f"reconstructed from {worth} of {count} made-up samples: more take long for a model of this size",)
    spread = np.linspace(0, count - 1, used).astype(int) if count else np.zeros(0, int)
    cut = {n: a[spread] if has_rows(a) else a for n, a in feeds.items()}
    whole = len(spread) // size * size if fixed else len(spread)
    starts = range(0, whole, size)
    return [{n: a[i : i + size] if has_rows(a) else a for n, a in cut.items()} for i in starts], notes


def _enlarged(typing: Typing, samples: Samples) -> tuple[Samples, tuple[str, ...]]:
    """With as many samples as the layers have use for, if there are more and they can be afforded; and a note of it."""
    affordable = min(_room(typing.graph, samples), _worth(typing.graph))
    count, notes = samples.count, tuple[str, ...]()
    for further in samples.further:
        if 2 * samples.count > affordable or enough(typing, samples.count):
            break
        feeds, what = further()
        larger = replace(samples, feeds=feeds)
        if larger.count > samples.count:
            samples = larger
            notes = (
                f"{what}: {count} show some layer fewer places than it has inputs (--calib-samples {count}: no more)",
            )
    return replace(samples, further=()), notes


def _room(graph: Graph, samples: Samples) -> int:
    """Samples that fit into memory."""
    return max(4, int(samples.memory / max(1.0, HELD * _each(graph))))


def _worth(graph: Graph) -> int:
    """Samples that are worth their time, where nobody gave them."""
    return max(FEWEST, int(WORK / max(1, cost(graph).macs)))


def _each(graph: Graph) -> float:
    """Bytes of a sample's live activations."""
    return _live_bytes(graph) / samples_held(graph)


def _live_bytes(graph: Graph) -> int:
    """Most bytes that tensors still to be read take at any point, at the concrete shapes."""
    last = {name: node.index for node in graph.nodes for name in node.inputs}
    sizes = {n: 4 * math.prod(graph.info.shapes.get(n, ())) for node in graph.nodes for n in node.outputs if n}
    ends: dict[int, int] = {}
    now = most = 0
    for node in graph.nodes:
        for name in node.outputs:
            if name and name not in graph.constants:
                now += sizes[name]
                ends[last.get(name, node.index)] = ends.get(last.get(name, node.index), 0) + sizes[name]
        most = max(most, now)
        now -= ends.pop(node.index, 0)
    return most
