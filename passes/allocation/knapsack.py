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


def solve_knapsack(lanes: Sequence[KnapsackItem], footprint: Footprint, goal: int, fixed: Widths) -> dict[Atom, int]:
    """Widths whose cost is at most ``goal``, else the least possible. ``fixed``: widths of other groups."""
    widths = {**fixed, **{lane.atom: lane.widths[-1] for lane in lanes}}
    spent = footprint.at(widths)
    steps = [hull(lane.widths, lane.loss)[:-1] for lane in lanes]
    queue: list[tuple[float, int]] = []

    def price(index: int) -> tuple[float, int]:
        """Loss per unit of cost saved by the item's next step, and the cost saved."""
        lane, width = lanes[index], steps[index][-1]
        saved = footprint.saved(widths, {lane.atom: width})
        return (float(lane.loss[width] - lane.loss[widths[lane.atom]]) / saved, saved) if saved > 0 else (0.0, 0)

    for index in range(len(lanes)):
        if steps[index] and price(index)[1]:
            heapq.heappush(queue, (price(index)[0], index))
    while spent > goal and queue:
        _, index = heapq.heappop(queue)
        now, saved = price(index)
        if queue and now > queue[0][0]:  # neighbours have shrunk since: the step saves less
            heapq.heappush(queue, (now, index))
            continue
        widths[lanes[index].atom] = steps[index].pop()
        spent -= saved
        if steps[index] and price(index)[1]:
            heapq.heappush(queue, (price(index)[0], index))
    _give_back(lanes, footprint, goal - spent, widths)
    return widths


def _give_back(lanes: Sequence[KnapsackItem], footprint: Footprint, room: int, widths: dict[Atom, int]) -> None:
    """Widen groups while the budget allows it, the one with the largest gain first."""
    while room > 0:
        best: tuple[float, KnapsackItem, int, int] | None = None
        for lane in lanes:
            now = widths[lane.atom]
            wider = next((w for w in lane.widths if w > now), None)
            if wider is None:
                continue
            gain = float(lane.loss[now] - lane.loss[wider])
            if best is None or gain > best[0]:
                cost = -footprint.saved(widths, {lane.atom: wider})
                if 0 < cost <= room:
                    best = (gain, lane, wider, cost)
        if best is None:
            return
        _, lane, wider, cost = best
        widths[lane.atom] = wider
        room -= cost
