"""The way of the samples: what they say of the channels, the plans that follow, the layers solved on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from passes.calibrated.flow import Engine
from passes.calibrated.knowledge import Knowledge, observe_channels
from passes.calibrated.restandardise import restandardised, samples_in, transfer
from passes.calibrated.solve import Feeds, solve_layers
from passes.cost import cost
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Array, Graph
from passes.plan import GroupPlan
from passes.shrink import Solution, unshrunk_twin

BATCH = 32
"""Samples that go through the model together, where it leaves their number open."""
HELD = 4
"""Live activations of a sample that are held at once: two flows, their batch inside the runtime."""
NORMED = 10
"""The same while all samples go through the norms as arithmetic."""
WORK = 4e11
"""Multiply-adds of a run over made-up samples: large models get fewer of them."""
FEWEST = 32
"""Made-up samples that even the largest models get."""
ASTRAY = 4.0
"""Relative error of the outputs beyond which what was solved for is not to be trusted."""


@dataclass(frozen=True)
class Samples:
    """``feeds``: input -> (N, ...); ``real``: whether they are of the data that the model is for; ``engine`` runs
    models; ``memory``: bytes that activations may take."""

    feeds: Mapping[str, Array]
    real: bool
    engine: Engine
    memory: int = 2 * 10**9


@dataclass(frozen=True)
class Reconstruction:
    """What was planned and solved; ``notes``: what a reader should know of it."""

    plans: list[GroupPlan]
    solution: Solution
    notes: tuple[str, ...] = ()


def reconstruct(
    before: Graph,
    typing: Typing,
    groups: Sequence[ChannelGroup],
    samples: Samples,
    make: Callable[[Mapping[str, Knowledge]], list[GroupPlan]],
) -> Reconstruction:
    """Plan with knowledge of ``groups`` and solve the layers. ``make``: knowledge -> plans of all groups."""
    feeds, notes = batches(typing.graph, samples)
    if len(feeds) < 2:
        return Reconstruction(make({}), Solution(), (*notes, "too few samples to reconstruct from: merged by weights"))
    together = max(4, int(samples.memory / max(1.0, NORMED * _each(typing.graph))))
    normed = None if samples.real else restandardised(before, typing, feeds, samples.engine, together)
    for seen in (typing,) if normed is None else (normed, typing):
        done = _solved(seen, typing, groups, feeds, samples.engine, make)
        if not _astray(typing, done, feeds[: max(1, BATCH // samples_in(feeds[0]))], samples.engine):
            return replace(done, notes=(*notes, *done.notes))
        if seen is normed:
            notes = (*notes, "the statistics of BatchNormalization do not fit the samples: they were not used")
    return Reconstruction(make({}), Solution(), (*notes, "samples lead the outputs astray: merged by weights"))


def _solved(
    seen: Typing,
    typing: Typing,
    groups: Sequence[ChannelGroup],
    feeds: Feeds,
    engine: Engine,
    make: Callable[[Mapping[str, Knowledge]], list[GroupPlan]],
) -> Reconstruction:
    """Plans and solution from the activations of ``seen``, for the weights of ``typing``."""
    plans = make(observe_channels(seen, groups, feeds, engine))
    if not any(plan.method == "reconstruct" for plan in plans):
        return Reconstruction(plans, Solution())
    solution = solve_layers(seen, plans, unshrunk_twin(seen, plans), feeds, engine)
    for plan in plans:
        errors = [solution.errors[name] for name in plan.group.consumers if name in solution.errors]
        plan.error = float(np.mean(errors)) if errors and plan.shrinks else None
    notes: tuple[str, ...] = ()
    if solution.unrefined:
        count, (name, reason) = len(solution.unrefined), next(iter(solution.unrefined.items()))
        notes = (f"{count} layers were not solved together with those before, {name} first: {reason}",)
    return Reconstruction(plans, solution if seen is typing else transfer(solution, seen, typing), notes)


def _astray(typing: Typing, done: Reconstruction, feeds: Feeds, engine: Engine) -> bool:
    """Whether outputs leave the original's altogether, as they do where the norms' record is of other activations, or
    where activations hardly vary, so that all there is to fit is rounding."""
    models = (typing.graph.model, unshrunk_twin(typing, done.plans, done.solution))
    loaded = [engine(model) for model in models]
    lost = power = 0.0
    for feed in feeds:
        before, after = (run(feed) for run in loaded)
        for name in typing.graph.outputs:
            if before[name].dtype.kind == "f":
                exact = before[name].astype(np.float64)
                power += float(np.square(exact).sum())
                lost += float(np.square(after[name] - exact).sum())
    return not lost <= ASTRAY**2 * power


def batches(graph: Graph, samples: Samples) -> tuple[list[dict[str, Array]], tuple[str, ...]]:
    """Samples cut into the batches that go through together, as many as fit into memory."""
    feeds = samples.feeds
    count = min((len(a) for a in feeds.values() if a.ndim), default=0)
    fixed = [graph.info.shapes[n][0] for n in feeds if feeds[n].ndim and (n, 0) not in graph.info.dynamic]
    room = max(4, int(samples.memory / max(1.0, HELD * _each(graph))))
    worth = count if samples.real else max(FEWEST, int(WORK / max(1, cost(graph).macs)))
    used = min(count, room, worth)
    size = 1 if graph.info.rigid else fixed[0] if fixed else max(1, min(BATCH, used // 2))
    notes: tuple[str, ...] = ()
    if min(count, worth) > room:
        notes = (f"reconstructed from {room} of {count} samples: more activations do not fit --memory-limit",)
    elif count > worth:
        notes = (f"reconstructed from {worth} of {count} made-up samples: more take long for a model of this size",)
    spread = np.linspace(0, count - 1, used).astype(int) if count else np.zeros(0, int)
    cut = {n: a[spread] if a.ndim else a for n, a in feeds.items()}
    whole = len(spread) // size * size if fixed else len(spread)
    starts = range(0, whole, size)
    return [{n: a[i : i + size] if a.ndim else a for n, a in cut.items()} for i in starts], notes


def _each(graph: Graph) -> float:
    """Bytes of a sample's live activations."""
    sizes = [graph.info.shapes[n][0] for n in graph.inputs if graph.info.shapes.get(n)]
    return _live_bytes(graph) / max(1, min(sizes, default=1))


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
