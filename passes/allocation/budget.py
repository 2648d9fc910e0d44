"""Computes widths that meet a cost budget: the same share in every group, or the least loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from passes.allocation.knapsack import KnapsackItem, solve_knapsack
from passes.allocation.width_alignment import allowed_widths
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.cost.footprint import Footprint, Widths
from passes.graph.model import Array
from passes.planning.plan import kept_channels
from passes.settings.allocation_tuning import AllocationTuning
from passes.settings.blocks import Blocks
from passes.settings.tuning import TUNING


@dataclass(frozen=True)
class BudgetScope:
    """Groups over which a budget is spread. ``fixed``: widths of other groups; ``footprint``: the cost that is limited;
    ``extra``: cost that the footprint does not include."""

    typing: Typing
    groups: Sequence[ChannelGroup]
    fixed: Widths
    footprint: Footprint
    extra: int = 0

    def cost(self, widths: Widths) -> int:
        """Cost of the whole model at these widths."""
        return self.footprint.at({**self.fixed, **widths}) + self.extra

    def misses(self, widths: Widths, goal: int) -> float:
        """Relative deviation of the cost from the goal."""
        return abs(self.cost(widths) - goal) / max(1, goal)


def uniform(pool: BudgetScope, ratio: float, blocks: Blocks) -> dict[Atom, int]:
    """ceil(ratio * C) channels for every group of C channels, rounded up to whole blocks. All stay where no channel can
    be removed alone, beside groups where they can: only an allocation by losses spends a budget there."""
    widths, others = {}, any(group.normalised is None for group in pool.groups)
    for group in pool.groups:
        wanted = group.size if group.normalised and others else kept_channels(ratio, group.size)
        widths[group.atom] = next(w for w in allowed_widths(pool.typing, group, blocks) if w >= wanted)
    return widths


def uniform_at(pool: BudgetScope, goal: int, blocks: Blocks) -> dict[Atom, int]:
    """The widths of `uniform` whose cost is nearest to ``goal``."""
    if not pool.groups:
        return {}
    ratios = sorted({k / g.size for g in pool.groups for k in allowed_widths(pool.typing, g, blocks)})
    low, high = 0, len(ratios) - 1
    while low < high:  # the first ratio that costs at least the goal
        middle = (low + high) // 2
        low, high = (low, middle) if pool.cost(uniform(pool, ratios[middle], blocks)) >= goal else (middle + 1, high)
    near = [uniform(pool, ratios[i], blocks) for i in {max(0, low - 1), low}]
    return min(near, key=lambda widths: abs(pool.cost(widths) - goal))


def balanced(
    pool: BudgetScope,
    goal: int,
    losses: Mapping[str, Array],
    blocks: Blocks,
    tuning: AllocationTuning = TUNING.allocation,
) -> dict[Atom, int]:
    """Widths of least loss that cost at most ``goal``, or of least cost if none do.

    ``losses``: group name -> (C + 1,), the loss at each width. Some groups cause a cost as soon as they lose a channel
    (`Footprint`). It is tried to cut all of these, then only those that lost some, and none; the widths that lose least
    are taken.
    """
    items, ends = list[KnapsackItem](), pool.footprint.optional_atoms
    for group in pool.groups:
        widths = allowed_widths(pool.typing, group, blocks, max(1, group.size // tuning.width_choices))
        items.append(KnapsackItem(group.atom, widths, losses[group.name]))
    sizes = {group.atom: group.size for group in pool.groups}
    found, cut = list[dict[Atom, int]](), sizes.keys() & ends
    while True:
        whole = {atom: size for atom, size in sizes.items() if atom in ends and atom not in cut}
        free = [item for item in items if item.atom not in whole]
        footprint, fixed = pool.footprint.counting(cut), {**pool.fixed, **whole}
        each = solve_knapsack(free, footprint, goal - pool.extra, fixed)
        lost = {atom for atom in cut if each[atom] < sizes[atom]}
        found += [each] if lost == cut else []
        if not cut:
            break
        cut = lost if lost != cut else set()
    best = min(found, key=lambda widths: (max(0, pool.cost(widths) - goal), summed_loss(pool, losses, widths)))
    return {group.atom: best[group.atom] for group in pool.groups}


def summed_loss(pool: BudgetScope, losses: Mapping[str, Array], widths: Widths) -> float:
    """Sum of the losses that the groups have at ``widths``, each cut alone."""
    return sum(float(losses[group.name][widths[group.atom]]) for group in pool.groups)


def filled(
    pool: BudgetScope, goal: int, losses: Mapping[str, Array], widths: dict[Atom, int], near: float, step: int
) -> dict[Atom, int]:
    """``widths``, with one group wider where they leave more than the share ``near`` of the goal unused.

    This width need not be a multiple of the block. ``step``: step between the widths that are tried.
    """
    best, gap = widths, goal - pool.cost(widths)
    for group in sorted(pool.groups, key=lambda g: -float(losses[g.name][widths[g.atom]])):
        if gap <= near * goal:
            break
        for wider in range(widths[group.atom] + step, group.size, step):
            trial = {**widths, group.atom: wider}
            left = goal - pool.cost(trial)
            if left < 0:
                break
            if left < gap:
                best, gap = trial, left
    return best


def adjusted(
    pool: BudgetScope,
    goal: int,
    losses: Mapping[str, Array],
    widths: dict[Atom, int],
    near: float,
    blocks: Blocks,
    tuning: AllocationTuning = TUNING.allocation,
) -> dict[Atom, int]:
    """``widths`` with up to two groups a little wider or narrower.

    Of the widths within ``near`` of the goal, those of least loss are chosen, else the nearest. In small models a
    single channel may cost more than the allowed deviation.
    """
    choices: list[list[tuple[Atom, int, float]]] = []
    for group in pool.groups:
        allowed, now = allowed_widths(pool.typing, group, blocks), widths[group.atom]
        wider, narrower = [w for w in allowed if w > now], [w for w in allowed if w < now]
        loss, reach = losses[group.name], tuning.adjusted_widths
        changes = [*narrower[-reach:], *wider[:reach]]
        choices.append([(group.atom, w, float(loss[w] - loss[now])) for w in changes])
    sets: list[tuple[tuple[Atom, int, float], ...]] = [(), *((change,) for own in choices for change in own)]
    if len(choices) <= tuning.paired_groups:
        sets += [pair for one, two in combinations(choices, 2) for pair in product(one, two)]
    everything, total = {**pool.fixed, **widths}, pool.cost(widths)

    def score(changes: Sequence[tuple[Atom, int, float]]) -> tuple[float, float]:
        cost = total - pool.footprint.saved(everything, {atom: width for atom, width, _ in changes})
        return max(0.0, abs(cost - goal) - near * goal), sum(loss for _, _, loss in changes)

    best = min(sets, key=score)
    return {**widths, **{atom: width for atom, width, _ in best}}
