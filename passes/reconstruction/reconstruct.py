"""The way of the samples: plans by what they show, layers solved on them, and a check that the outputs stay near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from passes.axes.inference import Typing
from passes.numerics.blas_threads import threads_alternating
from passes.planning.plan import GroupPlan
from passes.reconstruction.layerwise import solve_layers
from passes.reconstruction.weight_variants import WeightVariant, WeightVariants
from passes.statistics.batchnorm_recalibration import samples_in, transfer
from passes.surgery.apply_plan import Solution, apply_plans


@dataclass(frozen=True)
class Reconstruction:
    """What was planned and solved; ``notes``: what a reader should know of it."""

    plans: list[GroupPlan]
    solution: Solution
    notes: tuple[str, ...] = ()


def reconstruct(
    typing: Typing, views: WeightVariants, make: Callable[[WeightVariant | None], list[GroupPlan]]
) -> Reconstruction:
    """Plan by what the samples show and solve the layers. ``make``: a view, or none where samples do not help -> plans
    of all groups."""
    found = list(views)
    notes = views.notes
    if not found:
        return Reconstruction(make(None), Solution(), (*notes, views.lacking))
    for view in found:
        done = _solved(view, typing, make(view))
        if not _diverges(typing, done, view):
            return replace(done, notes=(*notes, *done.notes))
        if view is not found[-1]:
            notes = (*notes, "the statistics of BatchNormalization do not fit the samples: they were not used")
    return Reconstruction(make(None), Solution(), (*notes, "samples lead the outputs astray: merged by weights"))


def _solved(view: WeightVariant, typing: Typing, plans: list[GroupPlan]) -> Reconstruction:
    """Plans and their solution from the activations of ``view``, for the weights of ``typing``."""
    recurrent = any(plan.shrinks and plan.group.recurrent for plan in plans)  # pruned, but what reads them is solved
    if not recurrent and not any(plan.method == "reconstruct" for plan in plans):
        return Reconstruction(plans, Solution())
    seen = view.typing
    with threads_alternating():
        solution = solve_layers(view, plans)
    for plan in plans:
        errors = [solution.errors[name] for name in plan.group.consumers if name in solution.errors]
        plan.error = float(np.mean(errors)) if errors and plan.shrinks else None
    notes: tuple[str, ...] = ()
    if solution.unrefined:
        count, (name, reason) = len(solution.unrefined), next(iter(solution.unrefined.items()))
        notes = (f"{count} layers were not solved together with those before, {name} first: {reason}",)
    return Reconstruction(plans, solution if seen is typing else transfer(solution, seen, typing), notes)


def _diverges(typing: Typing, done: Reconstruction, view: WeightVariant) -> bool:
    """Whether outputs leave the original's altogether, as they do where the norms' record is of other activations, or
    where activations hardly vary, so that all there is to fit is rounding."""
    models = (typing.graph.model, apply_plans(typing, done.plans, done.solution))
    loaded = [view.engine(model) for model in models]
    lost = power = 0.0
    for feed in view.feeds[: max(1, view.tuning.memory.batch // samples_in(view.feeds[0]))]:
        before, after = (run(feed) for run in loaded)
        for name in typing.graph.outputs:
            if before[name].dtype.kind == "f":
                exact = before[name].astype(np.float64)
                power += float(np.square(exact).sum())
                lost += float(np.square(after[name] - exact).sum())
    return not lost <= view.tuning.reconstruction.diverged**2 * power
