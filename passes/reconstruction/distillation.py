"""Refines all layers of the compressed model together, so that it mimics the original on the samples.

Layers are solved one after the other, each for its own output. What the later ones make of its error is not known
then. Here all weights move at once, down the gradient of one loss (`passes.reconstruction.mimicked_tensors`), without
labels. A part of the samples is left out before layers are solved, and judges: the new weights are taken only if the
loss of the outputs falls there. Otherwise the layers are solved again, on all samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from passes.cost.cost import sample_macs
from passes.gradients.errors import NoGradientError
from passes.graph.model import Array
from passes.interface.engine import share_threads
from passes.interface.errors import RunError
from passes.interface.reason import Reason, planned
from passes.numerics.arrays import parts_of, rows_between, samples_in
from passes.planning.plan import GroupPlan
from passes.reconstruction.gradient_steps import Refinement
from passes.reconstruction.imitation_loss import ImitationLoss, imitation_gradients
from passes.reconstruction.mimicked_tensors import mimicked_tensors
from passes.reconstruction.step_schedule import StepSchedule, is_dense, scheduled
from passes.reconstruction.step_sizes import step_sizes
from passes.reconstruction.student import Student, student_of
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.augmentation import has_image_arrays, shifted
from passes.samples.sample_batches import samples_together
from passes.settings.compress import EFFORTS
from passes.statistics.lazy import Lazy
from passes.surgery.apply_plan import Solution
from passes.weights.stored_tensors import storing


@dataclass(frozen=True)
class Distillation:
    """``solution``: with the refined weights, None if they are not better; ``ratio``: loss of the outputs on the
    samples that judge, before these were learned from, over that of the layerwise solution; ``reason``: why nothing was
    refined."""

    solution: Solution | None = None
    ratio: float = 1.0
    reason: Reason | None = None


@dataclass(frozen=True)
class Preparation:
    """``variant``: with the samples to learn from; ``judging``: batches of those that judge, to which nothing is
    fitted; ``schedule``: of the steps, None if nothing is to be refined, for ``reason`` or because that was not asked
    for."""

    variant: WeightVariant
    judging: Sequence[Mapping[str, Array]] = ()
    schedule: StepSchedule | None = None
    reason: Reason | None = None


def prepared(variant: WeightVariant, plans: Sequence[GroupPlan], effort: str) -> Preparation:
    """Part the samples of ``variant`` before anything is fitted to them, if ``plans`` can be refined."""
    tuning = variant.tuning.distillation
    if effort not in EFFORTS[1:]:
        return Preparation(variant)
    if sum(map(samples_in, variant.feeds)) * variant.distinct < tuning.fewest_samples:
        return Preparation(variant, reason=planned("there are too few samples to judge it by"))
    if storing():
        return Preparation(variant, reason=planned("the weights are large, and stay in files"))
    schedule = scheduled(variant, tuning, EFFORTS.index(effort) - 1)
    if schedule.obstacle:
        return Preparation(variant, reason=planned(schedule.obstacle))
    learned, judging = split_batches(variant, tuning.judged_share)
    if not learned or not judging:
        return Preparation(variant, reason=planned("there are too few batches to judge it by"))
    try:
        reason = _obstacle(student_of(variant.typing, plans, Solution()), judging[0], variant)
    except RunError as error:
        reason = planned(str(error))
    if reason is not None:
        return Preparation(variant, reason=reason)
    return Preparation(variant.with_feeds(learned), judging, schedule)


def distil(chosen: Preparation, plans: Sequence[GroupPlan], solution: Solution) -> Distillation:
    """Refine ``solution``, which was fitted to the samples of ``chosen.variant``."""
    variant, tuning = chosen.variant, chosen.variant.tuning.distillation
    if chosen.schedule is None:
        return Distillation(reason=chosen.reason)
    engine, workers = share_threads(variant.engine, chosen.schedule.parts)
    schedule = chosen.schedule.split_for_workers(workers)
    student = student_of(variant.typing, plans, solution)
    batches = [part for feed in variant.feeds for part in parts_of(feed, schedule.batch, schedule.unit)]
    size = sum(map(samples_in, batches)) / len(batches)
    joined = max(1, round(schedule.batch * schedule.joined / size))
    weighing = range(len(batches))[: math.ceil(tuning.weighing_samples / size)]
    makers: list[Callable[[], Mapping[str, Array]]] = [partial(_same, feed) for feed in [*batches, *chosen.judging]]
    judging = range(len(batches), len(makers))
    if has_image_arrays(batches[0], tuning.augmentation):
        seeds = itertools.count()
        copies = [feed for _ in range(tuning.copies) for feed in batches]
        makers += [partial(shifted, feed, next(seeds), tuning.augmentation) for feed in copies]
    learned = [index for index in range(len(makers)) if index not in judging]
    feeds: Sequence[Mapping[str, Array]] = Lazy(makers)
    try:
        room = tuning.target_share * variant.moment_limit
        reads = (1 + tuning.tried_share + tuning.last_share) * schedule.steps * joined  # two rates are tried at least
        scratch = variant.scratch if reads >= tuning.fewest_reads * len(learned) else None
        if scratch is not None:
            scratch = replace(scratch, room=min(scratch.room, tuning.stored_targets * variant.moment_limit))
        loss = ImitationLoss(student, feeds, weighing, engine, workers, room, tuning, scratch)
        weight = tuning.dense_feature_weight if is_dense(variant.sized.graph, tuning) else tuning.feature_weight
        work = tuning.passes * joined * size * sample_macs(variant.sized.graph)
        sizes = step_sizes(student.layers, loss.spreads, work, tuning)
        refinement = Refinement(student, loss, sizes, learned, judging, joined, weight, tuning)
        values, ratio = refinement.result(schedule.steps)
    except RunError as error:
        return Distillation(reason=planned(str(error)))
    return Distillation(student.solution(solution, values), ratio) if ratio < 1 else Distillation()


def _obstacle(student: Student, feed: Mapping[str, Array], variant: WeightVariant) -> Reason | None:
    """Why the student cannot be refined, None if it can."""
    if not student.layers:
        return planned("no layer that lost channels has weights of float32")
    run = variant.engine(variant.typing.graph.model)
    outputs = run(feed)
    tensors = mimicked_tensors(student, outputs)
    ends = [one for one in tensors if not one.feature]
    if not ends:
        return planned("no output holds real numbers")
    varying = [one for one in ends if (one.name, one.axis) in variant.typing.graph.info.dynamic]
    unit = samples_together(variant.typing.graph, feed)
    fewer = run(rows_between(feed, 0, unit)) if varying and samples_in(feed) > unit else outputs
    for one in varying:
        if fewer[one.name].shape[one.axis] != outputs[one.name].shape[one.axis]:
            return planned(f"no axis of {one.name} has as many values in every batch")
    try:
        imitation_gradients(student, tensors, feed, variant.engine)
    except NoGradientError as error:
        return error.reason
    return None


def split_batches(variant: WeightVariant, share: int) -> tuple[list[Mapping[str, Array]], list[Mapping[str, Array]]]:
    """Batches to learn from, and those that judge: one sample in ``share``, the last ones of each batch, or one batch
    in so many where batches are small. Mirror images stay with their images."""
    learned: list[Mapping[str, Array]] = []
    judging: list[Mapping[str, Array]] = []
    unit = samples_together(variant.typing.graph, variant.feeds[0])
    pair = math.lcm(2, unit)
    for index, feed in enumerate(variant.feeds):
        count = samples_in(feed)
        taken = count // share // pair * pair
        if taken:
            learned.append(rows_between(feed, 0, count - taken))
            judging.append(rows_between(feed, count - taken, count))
        elif len(variant.feeds) > 1:
            (judging if index % share == min(share, len(variant.feeds)) // 2 else learned).append(feed)
    return learned, judging


def _same(feed: Mapping[str, Array]) -> Mapping[str, Array]:
    return feed
