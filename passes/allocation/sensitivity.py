"""Measures the loss of the outputs with groups cut, one at a time or together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from passes.allocation.output_loss import ExactOutput
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Role
from passes.axes.output_parts import joined_parts
from passes.cost.cost import sample_macs
from passes.graph.model import Array
from passes.interface.engine import Engine, placed, retaining, reuses_sessions, share_threads
from passes.interface.steps import steps
from passes.numerics.arrays import samples_in
from passes.numerics.threads import at_once, threads_alternating
from passes.numerics.tuning import NUMERICS
from passes.planning.plan import kept_channels
from passes.planning.planner import Planner
from passes.reconstruction.layerwise import solve_layers
from passes.reconstruction.mimicked_tensors import guessed_channel_axis
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.sample_batches import samples_together
from passes.settings.allocation_tuning import SensitivityTuning
from passes.settings.tuning import TUNING
from passes.statistics.activation_memory import activations
from passes.statistics.object_places import ObjectPlaces
from passes.statistics.segmented_execution import SegmentedRun
from passes.surgery.apply_plan import apply_plans, unshrunk_twin
from passes.weights.stored_tensors import discarding_weights, storing

Outputs = list[dict[str, Array]]


class Sensitivity:
    """Runs the model of a weight variant with groups cut. Weights are those of the plans; no layer is solved.

    Losses are measured on samples that the plans do not use (`WeightVariant.apart`). On the plans' own samples the loss
    would be underestimated.
    """

    def __init__(self, variant: WeightVariant, groups: int, tuning: SensitivityTuning = TUNING.sensitivity) -> None:
        """``groups``: largest number of groups to measure."""
        typing = variant.typing
        # on average half of the model comes after a group
        each = max(1, groups) * sample_macs(variant.sized.graph) / 2
        affordable = tuning.multiply_adds / each
        every = affordable >= tuning.fewest_samples * len(tuning.shares)
        self.shares = tuning.shares if every else tuning.shares[:1]
        wanted = min(tuning.most_samples, max(tuning.fewest_samples, int(affordable / len(self.shares))))
        count = max(1, math.ceil(wanted / samples_in(variant.feeds[0])))
        self._feeds = [dict(feed) for feed in variant.feeds[: min(count, variant.apart)]]
        if len(self._feeds) == 1 and not typing.graph.info.rigid:
            unit = samples_together(typing.graph, self._feeds[0])
            some = max(1, wanted // unit) * unit
            self._feeds = [{n: a[:some] if _batched(variant, n) else a for n, a in self._feeds[0].items()}]
        self._variant, self._tuning = variant, tuning
        self._engine, self._workers = variant.engine, 1
        self._divide(wanted)
        self._feeds = [placed(self._engine, feed) for feed in self._feeds]
        self._names = [n for n in typing.graph.outputs if n in typing.graph.producer]
        self._exact: Outputs = []
        self._places: Outputs = []
        self._compared: dict[str, ExactOutput] = {}

    @property
    def exact(self) -> Outputs:
        """Outputs of the uncut model, stored until `release`."""
        if not self._exact:
            outputs = self._outputs(self._variant.typing.graph.model, self._engine)
            self._exact = [{n: found[n] for n in self._names} for found in outputs]
            self._places = self._weighed_places(self._exact)
        return self._exact

    def release(self) -> None:
        """Free the stored outputs, which can be recomputed."""
        self._exact, self._places, self._compared = [], [], {}

    def alone(self, planner: Planner, groups: Sequence[ChannelGroup]) -> dict[str, dict[int, float]]:
        """Group name -> width -> loss with this group alone cut."""
        typing, whole = self._variant.typing, reuses_sessions(self._variant.engine)
        engine, folder = self._variant.engine, self._variant.folder
        flow = SegmentedRun(typing.graph.model, self._feeds, engine, folder, workers=self._workers)
        _ = self.exact  # first, so that a model that does not run fails here
        found: dict[str, dict[int, float]] = {}
        order = sorted((_first_reader(group), i) for i, group in enumerate(groups))
        for index, i in steps(order, lambda place: groups[place[1]].name):
            group = groups[i]
            if not whole:
                flow.advance(max(flow.at, index), self._names)  # keep outputs that are already computed
            losses: dict[int, float] = {}
            for share in self.shares:
                if losses and not self._tells(share, next(iter(losses.values()))):
                    continue
                width = kept_channels(share, group.size)
                plan = planner.plan(group, width)
                if plan.shrinks:
                    with discarding_weights():
                        twin = unshrunk_twin(typing, [plan])
                        after = self._outputs(twin, self._engine) if whole else flow.onward(twin, self._names)
                    losses[width] = self._loss(after)
            if losses:
                found[group.name] = losses
        return found

    def _tells(self, share: float, first: float) -> bool:
        """Whether the loss at ``share`` can matter, by the loss at the ``first`` share."""
        return first > self._tuning.robust if share > self.shares[0] else first < self._tuning.fragile

    def together(self, planner: Planner, groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> float:
        """Loss of the outputs with all groups at ``widths``."""
        plans = [planner.plan(group, widths.get(group.name, group.size)) for group in groups]
        with discarding_weights():
            after = self._outputs(unshrunk_twin(self._variant.typing, plans), retaining(self._engine))
        return self._loss(after)

    def solved(self, planner: Planner, groups: Sequence[ChannelGroup], widths: Mapping[str, int]) -> float | None:
        """Loss of the outputs with all groups at ``widths`` and the layers solved, one after the other, on the samples
        that no loss is measured on. None where there are no others."""
        variant = self._variant
        others = variant.feeds[variant.apart :]
        if not others or storing():
            return None
        plans = [planner.plan(group, widths.get(group.name, group.size)) for group in groups]
        with threads_alternating():
            solution = solve_layers(variant.with_feeds(others), plans)
        return self._loss(self._outputs(apply_plans(variant.typing, plans, solution), self._engine))

    def _outputs(self, model: onnx.ModelProto, engine: Engine) -> Outputs:
        return list(map(dict, at_once(engine(model), self._feeds, self._workers)))

    def _divide(self, wanted: int) -> None:
        """Let batches run at the same time, or equal parts of each where its samples are the rows of all outputs.
        ``wanted``: number of samples."""
        variant, feed = self._variant, self._feeds[0]
        graph, unit, count = variant.sized.graph, samples_together(variant.typing.graph, feed), samples_in(feed)
        work = wanted * sample_macs(graph) / NUMERICS.parallel.multiply_adds
        if variant.folder is not None or share_threads(variant.engine, int(work))[1] < 2:
            return
        made = variant.engine(variant.typing.graph.model)(feed)  # what is declared of outputs may be wrong
        rows = not variant.typing.graph.info.rigid and all(a.ndim and len(a) == count for a in made.values())
        held = max(1.0, (unit if rows else count) * activations(graph).live)
        self._engine, self._workers = share_threads(variant.engine, int(min(work, variant.moment_limit / held)))
        if rows:
            self._feeds = [part for feed in self._feeds for part in self._parts(feed, unit)]

    def _parts(self, feed: dict[str, Array], unit: int) -> list[dict[str, Array]]:
        """``feed`` in as many equal parts as may run at the same time, or the largest possible number below it."""
        units, over = divmod(samples_in(feed), unit)
        number = 1 if over else max(n for n in range(1, self._workers + 1) if units % n == 0)
        if number == 1:
            return [feed]
        edges = range(0, units * unit + 1, units * unit // number)
        batched = [n for n in feed if _batched(self._variant, n)]
        return [{**feed, **{n: feed[n][a:b] for n in batched}} for a, b in itertools.pairwise(edges)]

    def _loss(self, after: Outputs) -> float:
        """Noise over signal, averaged over the parts of all outputs (see `ExactOutput`)."""
        ratios: list[float] = []
        for name in self._names:
            if self.exact[0][name].dtype.kind == "f":
                ratios += self._output(name).losses([found[name] for found in after])
        return float(np.mean(ratios)) if ratios else 0.0

    def _output(self, name: str) -> ExactOutput:
        if name not in self._compared:
            parts = joined_parts(self._variant.typing, name, self.exact[0][name].shape[1:])
            exact, places = [found[name] for found in self.exact], self._places
            weights = [one[name] for one in places] if all(name in one for one in places) else []
            self._compared[name] = ExactOutput(exact, parts, self._tuning, weights)
        return self._compared[name]

    def _weighed_places(self, exact: Outputs) -> Outputs:
        """Output -> weights of its places, for each batch, where a detector finds objects."""
        first = {n: a for n, a in exact[0].items() if a.dtype.kind == "f" and a.ndim}
        values = {name: [found[name] for found in exact] for name in first}
        axes = {name: guessed_channel_axis(array) for name, array in first.items()}
        places = ObjectPlaces(self._variant.typing, values, axes, self._tuning.objects)
        return [places.weights(found) for found in exact]


def _first_reader(group: ChannelGroup) -> int:
    """Index of the first node that a removal affects: it reads or sums over the group's channels."""
    if group.normalised is not None:  # mixtures take the place of the channels from the first layer on
        return group.steps[0].flow.record.node.index
    missed = (s for s in group.steps if s.consumed or s.contracted or s.slid or s.with_role(Role.CONSUMER))
    readers = [step.flow.record.node.index for step in missed]
    return min(readers, default=group.steps[0].flow.record.node.index)


def _batched(variant: WeightVariant, name: str) -> bool:
    return (name, 0) in variant.typing.graph.info.dynamic
