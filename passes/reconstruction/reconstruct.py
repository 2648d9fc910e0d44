"""Reconstructs layers on samples: the weight variants to try, the solution, and a check for divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from passes.axes.inference import Typing
from passes.interface.reason import Reason
from passes.numerics.arrays import samples_in
from passes.numerics.threads import threads_alternating
from passes.planning.plan import GroupPlan
from passes.reconstruction.distillation import distil, prepared
from passes.reconstruction.layerwise import solve_layers
from passes.reconstruction.weight_variant import WeightVariant
from passes.reconstruction.weight_variants import WeightVariants
from passes.statistics.batchnorm_recalibration import transfer_solution
from passes.surgery.apply_plan import Solution, apply_plans


@dataclass(frozen=True)
class Reconstruction:
    """Plans and their solution. ``notes``: messages for the user."""

    plans: list[GroupPlan]
    solution: Solution
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """``variant``: the weights to solve with, None to go by weights alone; ``notes``: why earlier ones failed."""

    variant: WeightVariant | None
    notes: tuple[str, ...] = ()


def attempts(variants: WeightVariants) -> list[Attempt]:
    """Attempts in the order to try, until a solution holds. The last one, by weights alone, always holds."""
    found = list(variants)
    if not found:
        return [Attempt(None, (variants.lacking,))]
    unfit = ("the statistics of BatchNormalization do not fit the samples: they were not used",)
    first, *others = found
    by_weights = Attempt(None, ("the outputs diverge on the samples: merged by weights",))
    return [Attempt(first), *(Attempt(variant, unfit) for variant in others), by_weights]


def solve(variant: WeightVariant, typing: Typing, plans: list[GroupPlan], effort: str = "low") -> Reconstruction:
    """Solve ``plans`` on the activations of ``variant``. The solution is for the weights of ``typing``. ``effort``: see
    `passes.reconstruction.distillation`."""
    recurrent = any(plan.shrinks and plan.group.recurrent for plan in plans)  # pruned, but readers are solved
    if not recurrent and not any(plan.method == "reconstruct" for plan in plans):
        return Reconstruction(plans, Solution())
    solution, reason = _solution(variant, plans, effort)
    plans = [replace(plan, error=_error_of(plan, solution)) for plan in plans]
    notes: tuple[str, ...] = ()
    if solution.unrefined:
        count, (name, why) = len(solution.unrefined), next(iter(solution.unrefined.items()))
        notes = (f"{count} layers were not solved together with those before, {name} first: {why}",)
    if reason is not None:
        notes += (f"the layers were not refined together: {reason}",)
    seen = variant.typing
    return Reconstruction(plans, solution if seen is typing else transfer_solution(solution, seen, typing), notes)


def _solution(variant: WeightVariant, plans: Sequence[GroupPlan], effort: str) -> tuple[Solution, Reason | None]:
    """The refined solution, or the layerwise one and why it was not refined. It is refined only if that makes it better
    on samples that are left out; these are left out of the layerwise solution only where it is refined."""
    chosen = prepared(variant, plans, effort)
    with threads_alternating():
        solution = solve_layers(chosen.variant, plans)
    distilled = distil(chosen, plans, solution)
    if distilled.solution is not None:
        return distilled.solution, None
    if chosen.variant is not variant:
        with threads_alternating():
            solution = solve_layers(variant, plans)
    return solution, distilled.reason


def _error_of(plan: GroupPlan, solution: Solution) -> float | None:
    """The mean error of the layers that read the group of ``plan``."""
    errors = [solution.errors[name] for name in plan.group.consumers if name in solution.errors]
    return float(np.mean(errors)) if errors and plan.shrinks else None


def diverges(typing: Typing, done: Reconstruction, variant: WeightVariant) -> bool:
    """Whether the outputs diverge from the original's.

    They do where recorded norm statistics do not fit the activations, or where activations are nearly constant and the
    regression fits rounding errors.
    """
    models = (typing.graph.model, apply_plans(typing, done.plans, done.solution))
    loaded = [variant.engine(_of_tensors(model)) for model in models]
    lost = power = 0.0
    for feed in variant.feeds[: max(1, variant.tuning.memory.batch // samples_in(variant.feeds[0]))]:
        before, after = (run(feed) for run in loaded)
        for name in typing.graph.outputs:
            # A number of rows that depends on the data may differ.
            if name in before and before[name].dtype.kind == "f" and before[name].shape == after[name].shape:
                exact = before[name].astype(np.float64)
                power += float(np.square(exact).sum())
                lost += float(np.square(after[name] - exact).sum())
    return not lost <= variant.tuning.reconstruction.diverged**2 * power


def _of_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without outputs that are sequences of tensors or optional, which no engine returns."""
    kept = [output for output in model.graph.output if not _is_no_tensor(output.type)]
    if len(kept) == len(model.graph.output):
        return model
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    del copied.graph.output[:]
    copied.graph.output.extend(kept)
    return copied


def _is_no_tensor(kind: onnx.TypeProto) -> bool:
    if kind.HasField("sequence_type"):  # sequences of maps are returned, as tensors
        return bool(kind.sequence_type.elem_type.HasField("tensor_type"))
    return bool(kind.HasField("optional_type"))
