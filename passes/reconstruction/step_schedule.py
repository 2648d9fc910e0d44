"""How many steps refine all layers together, and of how many samples: what time, memory and samples allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from passes.cost.cost import sample_macs
from passes.graph.model import Graph
from passes.numerics.arrays import samples_in
from passes.numerics.tuning import NUMERICS
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.sample_batches import samples_together
from passes.settings.distillation_tuning import DistillationTuning
from passes.statistics.activation_memory import every_activation, weight_bytes, weight_count


@dataclass(frozen=True)
class StepSchedule:
    """``steps``: their number; ``batch``: samples that run together, a multiple of ``unit``; ``joined``: batches of a
    step; ``parts``: most batches that may run at the same time, where they have ``together`` samples in all;
    ``obstacle``: why time, memory or samples allow too few steps, empty if they do not."""

    steps: int
    batch: int
    joined: int
    unit: int = 1
    parts: int = 1
    together: int = 1
    obstacle: str = ""

    def split_for_workers(self, workers: int) -> StepSchedule:
        """The schedule with smaller batches, of which ``workers`` run at the same time."""
        samples = self.batch * self.joined
        if workers < 2:
            return self
        batch = min(self.batch, max(1, min(samples, self.together) // (workers * self.unit)) * self.unit)
        return replace(self, batch=batch, joined=max(1, samples // batch))


def scheduled(variant: WeightVariant, tuning: DistillationTuning, level: int) -> StepSchedule:
    """The steps that time, memory and the number of samples allow. ``level``: 0 at medium effort, 1 at high."""
    graph = variant.sized.graph
    unit = samples_together(variant.typing.graph, variant.feeds[0])
    memory = (1 - tuning.target_share) * variant.moment_limit
    activations = tuning.activation_copies * every_activation(graph)
    room = memory / max(1.0, activations)
    each = tuning.passes * sample_macs(graph)
    passes = max(tuning.multiply_adds[level] / each, min(tuning.seen, tuning.most_multiply_adds / each))
    smallest = tuning.dense_batch if is_dense(graph, tuning) else tuning.smallest_batch
    enough = tuning.weight_multiply_adds[level] * weight_count(graph) / each
    passes = min(passes, max(enough, tuning.fewest_steps * smallest))
    wanted = min(tuning.batch, max(smallest, passes / tuning.steps[level]))
    used = sum(map(samples_in, variant.feeds))
    most = min(room, wanted, used // tuning.fewest_batches, samples_in(variant.feeds[0]))
    batch = max(1, int(most) // unit) * unit
    joined = max(1, int(min(wanted, used // 2)) // batch)
    steps = min(tuning.steps[level], int(passes / (batch * joined)))
    if tuning.fewest_batches * batch > used:
        return StepSchedule(0, batch, joined, obstacle="there are too few samples for its batches")
    if batch > max(1, room):
        return StepSchedule(0, batch, joined, obstacle="the samples of a step do not fit the memory")
    obstacle = "" if steps >= tuning.fewest_steps else "its steps would take too long"
    # Each part has gradients of all weights, too.
    samples, weights = batch * joined, weight_bytes(graph)
    work = samples * sample_macs(graph) / NUMERICS.parallel.multiply_adds
    parts = max(1, int(min(samples // unit, memory / max(1.0, activations * unit + weights), work)))
    together = min(samples, (memory - parts * weights) / max(1.0, activations))
    return StepSchedule(steps, batch, joined, unit, parts, max(unit, int(together)), obstacle)


def is_dense(graph: Graph, tuning: DistillationTuning) -> bool:
    """Whether some output has many places: its values over the size of its smallest axis, which is taken for that of
    the channels."""
    shapes = [graph.shape(name) or () for name in graph.outputs]
    found = [math.prod(shape[1:]) / min(shape[1:]) for shape in shapes if len(shape) > 2 and min(shape[1:]) > 0]
    return max(found, default=1.0) >= tuning.dense_places
