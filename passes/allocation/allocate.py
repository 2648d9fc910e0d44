"""How many channels each group keeps.

With allocation ``uniform`` every group keeps the same share. With ``auto`` as much of the cost goes, but where the
outputs miss it least: the groups' losses are measured one by one, the budget is spread over them, and several ways to
do so are compared by what the outputs lose with all groups cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from passes.allocation.budget import Pool, balanced, filled, uniform, uniform_at
from passes.allocation.losses import Losses
from passes.analysis import Analysis
from passes.cost import cost, is_float
from passes.footprint import macs_footprint, params_footprint
from passes.graph.errors import PassError
from passes.graph.groups import ChannelGroup
from passes.graph.model import Array
from passes.graph.terms import Atom
from passes.planner import Planner
from passes.settings import CompressSettings
from passes.shrink import shrink

ROUGH = 0.05
"""Relative deviation from the cost of ``keep`` at which no smaller blocks are tried."""


class TargetError(PassError):
    """A target that cannot be met; the message names the nearest that can."""


@dataclass(frozen=True)
class Allocation:
    """``widths``: of all groups that may shrink; ``block``: channels that the widths are multiples of, where a group
    has as many; ``asked``: those that were asked for; ``loss`` of the outputs that is predicted, and ``free_loss``
    that without blocks, None where nothing was predicted."""

    widths: dict[Atom, int]
    block: int = 1
    asked: int = 1
    loss: float | None = None
    free_loss: float | None = None


@dataclass(frozen=True)
class Allocator:
    """``live``: groups that may shrink; ``own``: group name -> the share that the user gave it alone."""

    analysis: Analysis
    live: Sequence[ChannelGroup]
    own: Mapping[str, float]
    settings: CompressSettings
    planner: Planner
    losses: Losses

    def allocation(self) -> Allocation:
        """The widths.

        Raises
        ------
        TargetError: no widths come within 1% of the target.
        """
        target, settings = self.settings.target, self.settings
        pool = self._pool()
        if target is None:
            widths = uniform(pool, settings.keep, settings.block)
            if settings.allocation == "uniform" or settings.keep >= 1 or not pool.groups:
                return self._with_fixed(pool, Allocation(widths, settings.block, settings.block))
            goal = pool.cost(uniform(pool, settings.keep, 1))
            return self._with_fixed(pool, self._spread(pool, goal, ROUGH))
        before = cost(self.analysis.before)
        whole = before.params if target.kind == "params" else before.macs
        goal = round(target.ratio * whole)
        allocation = self._at(pool, goal, target.near)
        if target.kind == "params":  # what was folded is gone, and biases are new
            pool = self._pool(extra=self._params(pool, allocation) - pool.cost(allocation.widths))
            allocation = self._at(pool, goal, target.near)
        reached = pool.cost(allocation.widths)
        if pool.misses(allocation.widths, goal) > target.near:
            name, ratio = f"target-{target.kind}", reached / max(1, whole)
            least = "the least" if reached > goal else "the nearest"
            raise TargetError(f"{name} {target.ratio:g} cannot be met: {least} that can be reached is {ratio:.4f}")
        return self._with_fixed(pool, allocation)

    def prepare(self) -> None:
        """Find the losses by which every budget is spread."""
        pool = self._pool()
        if self.settings.allocation != "uniform" and pool.groups:
            self.losses.of(pool.groups)

    def _pool(self, extra: int = 0) -> Pool:
        """What the user fixed, and what costs nothing that counts, is not in it."""
        target, typing = self.settings.target, self.analysis.typing
        footprint = (params_footprint if target and target.kind == "params" else macs_footprint)(typing)
        spread, fixed = list[ChannelGroup](), dict[Atom, int]()
        for group in self.live:
            if group.name in self.own:
                fixed[group.atom] = max(1, math.ceil(self.own[group.name] * group.size - 1e-9))
            elif footprint.saved({}, {group.atom: 1}) > 0:
                spread.append(group)
            elif target is None:
                fixed[group.atom] = max(1, math.ceil(self.settings.keep * group.size - 1e-9))
        return Pool(typing, spread, fixed, footprint, extra)

    def _at(self, pool: Pool, goal: int, near: float) -> Allocation:
        if self.settings.allocation == "uniform":
            return Allocation(uniform_at(pool, goal, self.settings.block), self.settings.block, self.settings.block)
        return self._spread(pool, goal, near)

    def _spread(self, pool: Pool, goal: int, near: float) -> Allocation:
        """Widths whose cost is within ``near`` of ``goal``, else the nearest; blocks are halved until they allow it."""
        asked = self.settings.block
        losses = self.losses.of(pool.groups)
        for block in (asked // 2**i for i in range(asked.bit_length()) if asked % 2**i == 0):
            ways = [balanced(pool, goal, tempered, block) for tempered in _tempered(losses)]
            if block == 1:
                ways.append(uniform_at(pool, goal, 1))
            widths = self._best(pool, [filled(pool, goal, losses, way, near) for way in ways])
            if pool.misses(widths, goal) <= near:
                break
        free = widths if block == 1 else balanced(pool, goal, losses, 1)
        loss, free_loss = (sum(float(losses[g.name][w[g.atom]]) for g in pool.groups) for w in (widths, free))
        return Allocation(widths, block, asked, loss, free_loss)

    def _best(self, pool: Pool, ways: Sequence[dict[Atom, int]]) -> dict[Atom, int]:
        """The way with which the outputs lose least; the first where that cannot be measured."""
        scores: list[float] = []
        for way in ways:
            everything = {**pool.fixed, **way}
            widths = {g.name: everything.get(g.atom, g.size) for g in self.live}
            loss = self.losses.together(self.live, widths)
            scores.append(math.inf if loss is None else loss)
        return ways[int(np.argmin(scores))]

    def _params(self, pool: Pool, allocation: Allocation) -> int:
        """Parameters of the model with these widths."""
        widths = {**pool.fixed, **allocation.widths}
        plans = [self.planner.plan(group, widths.get(group.atom, group.size)) for group in self.live]
        return _parameters(shrink(self.analysis.typing, plans))

    def _with_fixed(self, pool: Pool, found: Allocation) -> Allocation:
        return replace(found, widths={**pool.fixed, **found.widths})


def _parameters(model: onnx.ModelProto) -> int:
    return sum(math.prod(t.dims) for t in model.graph.initializer if is_float(t))


def _tempered(losses: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """As they are, and with less difference between groups: what is lost in several adds up to more than its sum."""
    return [losses, {name: np.sqrt(loss) for name, loss in losses.items()}]
