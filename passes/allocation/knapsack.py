"""Solves the knapsack problem of a budget: each greedy step removes the channels of least loss per cost saved.

The greedy descent along the convex hulls of the losses is the Lagrangian solution of

    min over widths: sum of the groups' losses   such that   cost(widths) <= goal

if the cost is a sum over the groups. Here the cost is a sum of products of widths. The saving of each step is therefore
recomputed at the current widths.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from passes.allocation.loss_curves import hull
from passes.axes.algebra import Atom
from passes.cost.footprint import Footprint, Widths
from passes.graph.model import Array


@dataclass(frozen=True)
class KnapsackItem:
    """A group of C channels that may shrink. ``widths``: allowed widths, ascending, up to C; ``loss`` (C + 1,): loss at
    every width."""

    atom: Atom
    widths: tuple[int, ...]
    loss: Array


def solve_knapsack(items: Sequence[KnapsackItem], footprint: Footprint, goal: int, fixed: Widths) -> dict[Atom, int]:
    """Widths whose cost is at most ``goal``, else the least possible. ``fixed``: widths of other groups."""
    widths = {**fixed, **{item.atom: item.widths[-1] for item in items}}
    total = footprint.at(widths)
    steps = [hull(item.widths, item.loss)[:-1] for item in items]
    queue: list[tuple[float, int]] = []

    def price(index: int) -> tuple[float, int]:
        """Loss per unit of cost saved by the item's next step, and the cost saved."""
        item, width = items[index], steps[index][-1]
        saved = footprint.saved(widths, {item.atom: width})
        return (float(item.loss[width] - item.loss[widths[item.atom]]) / saved, saved) if saved > 0 else (0.0, 0)

    def offer(index: int) -> None:
        """Queue the item's next step, if there is one that saves cost."""
        if steps[index]:
            now, saved = price(index)
            if saved:
                heapq.heappush(queue, (now, index))

    for index in range(len(items)):
        offer(index)
    while total > goal and queue:
        _, index = heapq.heappop(queue)
        now, saved = price(index)
        if queue and now > queue[0][0]:  # neighbours have shrunk since: the step saves less
            heapq.heappush(queue, (now, index))
            continue
        widths[items[index].atom] = steps[index].pop()
        total -= saved
        offer(index)
    _use_remainder(items, footprint, goal - total, widths)
    return widths


def _use_remainder(items: Sequence[KnapsackItem], footprint: Footprint, room: int, widths: dict[Atom, int]) -> None:
    """Widen groups while the budget allows it, the one with the largest gain first."""
    while room > 0:
        best: tuple[float, KnapsackItem, int, int] | None = None
        for item in items:
            now = widths[item.atom]
            wider = next((w for w in item.widths if w > now), None)
            if wider is None:
                continue
            gain = float(item.loss[now] - item.loss[wider])
            if best is None or gain > best[0]:
                cost = -footprint.saved(widths, {item.atom: wider})
                if 0 < cost <= room:
                    best = (gain, item, wider, cost)
        if best is None:
            return
        _, item, wider, cost = best
        widths[item.atom] = wider
        room -= cost
