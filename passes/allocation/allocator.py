"""Decides the width of every channel group for a share to keep or a target.

With allocation ``uniform`` every group keeps the same share. With ``auto`` the same cost is removed where it loses the
least: the loss of each group is measured alone, and the budget is spread by these losses. The result is compared with
the uniform one by the loss of the outputs with all groups cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from passes.allocation.budget import BudgetScope, adjusted, balanced, filled, summed_loss, uniform, uniform_at
from passes.allocation.losses import Losses
from passes.allocation.width_alignment import allowed_widths
from passes.analysis.analyse import Analysis
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup
from passes.cost.cost import NON_FLOATS, cost, parameters
from passes.cost.footprint import macs_footprint, params_footprint
from passes.interface.errors import PassError
from passes.planning.plan import kept_channels
from passes.planning.planner import Planner
from passes.settings.allocation_tuning import AllocationTuning
from passes.settings.blocks import PADDED, Blocks
from passes.settings.compress import CompressSettings
from passes.settings.target import Target
from passes.streams.identity_layers import drop_identity_layers
from passes.surgery.apply_plan import apply_plans


class TargetError(PassError):
    """A target that cannot be met. The message names the nearest one that can.

    ``nearest``: its ratio; None if even the smallest possible result is above the target.
    """

    def __init__(self, message: str, nearest: float | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True)
class Allocation:
    """``widths``: of all groups that may shrink; ``block``: widths are multiples of it, where a group has as many
    channels; ``asked``: the requested block; ``loss``: predicted loss of the outputs, ``unaligned_loss``: the same
    without blocks, both None where nothing was predicted."""

    widths: dict[Atom, int]
    block: int = 1
    asked: int = 1
    loss: float | None = None
    unaligned_loss: float | None = None


@dataclass(frozen=True)
class WidthChoice:
    """A candidate allocation: widths, and the block of which they are multiples."""

    block: int
    widths: dict[Atom, int]


@dataclass(frozen=True)
class Allocator:
    """``live``: groups that may shrink; ``own``: group name -> share that the user set for it; ``beside``: cost of the
    control-flow bodies in the result, in the unit of the target (parameters or multiply-adds)."""

    analysis: Analysis
    live: Sequence[ChannelGroup]
    own: Mapping[str, float]
    settings: CompressSettings
    planner: Planner
    losses: Losses
    beside: int = 0

    @property
    def _tuning(self) -> AllocationTuning:
        return self.planner.settings.tuning.allocation

    def allocation(self) -> Allocation:
        """Allocate the widths.

        Raises
        ------
        TargetError: no widths come within 1% of the target.
        """
        target, settings = self.settings.target, self.settings
        if settings.kept is not None:
            return Allocation({g.atom: len(settings.kept.get(g.name, range(g.size))) for g in self.live})
        pool = self._pool()
        if target is None:
            widths = uniform(pool, settings.keep, settings.blocks)
            if settings.allocation == "uniform" or settings.keep >= 1 or not pool.groups:
                return self._with_fixed(pool, self._even(widths))
            goal, near = pool.cost(uniform(pool, settings.keep, Blocks())), self._tuning.rough_deviation
            return self._with_fixed(
                *self._with_streams_or_without(pool, goal, near, lambda part: (part, self._nearest(part, goal, near)))
            )
        before = cost(self.analysis.before)
        whole = before.params if target.kind == "params" else before.macs
        goal = round(target.ratio * whole)
        if target.ratio >= 1:  # nothing is to be removed
            return self._with_fixed(pool, self._even({group.atom: group.size for group in pool.groups}))
        pool, allocation = self._with_streams_or_without(
            pool, goal, target.near, lambda part: self._recounted(part, goal, target)
        )
        if not goal or pool.misses(allocation.widths, goal) > target.near:
            raise self._missed(pool, allocation.widths, goal, whole)
        return self._with_fixed(pool, allocation)

    def prepare(self) -> None:
        """Measure the losses of all groups, which serve for every budget."""
        pool = self._pool()
        if self.settings.kept is None and self.settings.allocation != "uniform" and pool.groups:
            self.losses.of(pool.groups)

    def _missed(self, pool: BudgetScope, widths: Mapping[Atom, int], goal: int, whole: int) -> TargetError:
        """The error for a target that cannot be met, with the remedy."""
        target, blocks = self.settings.target, self.settings.blocks
        assert target is not None
        what = f"target-{target.kind} {target.ratio:g} cannot be met"
        if not whole:
            kind = "parameters" if target.kind == "params" else "multiply-adds"
            return TargetError(f"{what}: the model has no {kind}")
        reached = pool.cost(widths)
        finest = blocks if blocks.strict else Blocks()
        narrowest = {g.atom: allowed_widths(pool.typing, g, finest)[0] for g in pool.groups}
        least = reached == pool.cost(narrowest) and not self.beside  # bodies may shrink more
        what += f": the {'least' if least else 'nearest'} that can be reached is {reached / whole:.4f}"
        if blocks.strict and blocks.size > 1:
            what += f" with widths that are multiples of {blocks.size}: `blocks` 1 or auto may come nearer"
        elif self.settings.allocation == "uniform" and not least:
            what += " with the same share everywhere: `allocation` auto may come nearer"
        elif least and any(not g.frozen and g not in self.live for g in self.analysis.groups):
            what += ": exclude less"
        return TargetError(what, None if least and reached > goal else reached / whole)

    def _pool(self) -> BudgetScope:
        """The groups to spread the budget over, without those with a share set by the user and those at no cost."""
        target, typing = self.settings.target, self.analysis.typing
        counts = target is not None and target.kind == "params"
        footprint = params_footprint(typing, self.analysis.moved) if counts else macs_footprint(typing)
        spread, fixed = list[ChannelGroup](), dict[Atom, int]()
        for group in self.live:
            if group.name in self.own:
                fixed[group.atom] = kept_channels(self.own[group.name], group.size)
            elif footprint.saved({}, {group.atom: 1}) > 0:
                spread.append(group)
            elif target is None:
                fixed[group.atom] = kept_channels(self.settings.keep, group.size)
        return BudgetScope(typing, spread, fixed, footprint, self.beside)

    def _even(self, widths: dict[Atom, int]) -> Allocation:
        return Allocation(widths, self.settings.blocks.size, self.settings.blocks.size)

    def _recounted(self, pool: BudgetScope, goal: int, target: Target) -> tuple[BudgetScope, Allocation]:
        """Widths that meet ``goal``, and ``pool`` with what the result has beside what its footprint includes."""
        allocation = self._at(pool, goal, target.near)
        recounts = self._tuning.parameter_recounts if target.kind == "params" else 0
        for _ in range(recounts):  # folding removed some parameters, and new biases add some
            counted = self._params(pool, allocation)
            pool = replace(pool, extra=pool.extra + counted - pool.cost(allocation.widths))
            if pool.misses(allocation.widths, goal) <= target.near:
                break
            allocation = self._at(pool, goal, target.near)
        return pool, allocation

    def _at(self, pool: BudgetScope, goal: int, near: float) -> Allocation:
        if self.settings.allocation == "uniform":
            return self._even(uniform_at(pool, goal, self.settings.blocks))
        return self._nearest(pool, goal, near)

    def _with_streams_or_without(
        self,
        pool: BudgetScope,
        goal: int,
        near: float,
        allocate: Callable[[BudgetScope], tuple[BudgetScope, Allocation]],
    ) -> tuple[BudgetScope, Allocation]:
        """What ``allocate`` finds with residual streams or without, whichever loses less when layers are solved.

        Before they are, what hidden units lose looks worse beside a stream than it will be: layers behind them make up
        for it, but nothing does for what an output of the stream lacks. Streams of few widths can also miss a goal that
        is met without them.
        """
        with_streams, found = allocate(pool)
        missed = with_streams.misses(found.widths, goal) > near
        streams = {g.atom: g.size for g in pool.groups if g.normalised}
        cut = {atom: size for atom, size in streams.items() if found.widths[atom] < size}
        if not cut or self.settings.allocation == "uniform" or (self.settings.effort == "low" and not missed):
            return with_streams, found
        kept = streams if missed else cut
        others = [group for group in pool.groups if group.atom not in kept]
        if not others:
            return with_streams, found
        whole, other = allocate(replace(pool, groups=others, fixed={**pool.fixed, **kept}))
        if missed or whole.misses(other.widths, goal) > near:
            nearer = whole.misses(other.widths, goal) < with_streams.misses(found.widths, goal)
            return (whole, other) if nearer else (with_streams, found)
        lost, lost_without = self._solved(with_streams, found.widths), self._solved(whole, other.widths)
        better = lost is None or lost_without is None or lost <= lost_without
        return (with_streams, found) if better else (whole, other)

    def _nearest(self, pool: BudgetScope, goal: int, near: float) -> Allocation:
        """Widths whose cost deviates from ``goal`` by at most ``near`` (relative), else the nearest.

        Blocks that are not strict may be halved, to meet the goal or to reduce the loss.
        """
        asked, losses = self.settings.blocks, self.losses.of(pool.groups)
        choices = [
            self._choice(pool, goal, near, size) for size in ([asked.size] if asked.strict else _halves(asked.size))
        ]
        if not self._reached(pool, goal, near, choices):
            choices = [self._adjusted(pool, goal, near, choice) for choice in choices]
        if not asked.strict:
            even = WidthChoice(1, uniform_at(pool, goal, Blocks()))
            reached = self._reached(pool, goal, near, [*choices, even])
            choices.append(even if reached else self._adjusted(pool, goal, near, even))
        nearest = min(choices, key=lambda choice: pool.misses(choice.widths, goal))
        reached = self._reached(pool, goal, near, choices) or [nearest]
        choice = self._best(pool, reached)
        unaligned = balanced(pool, goal, losses, Blocks(), self._tuning)
        return Allocation(
            choice.widths, choice.block, asked.size, *(summed_loss(pool, losses, w) for w in (choice.widths, unaligned))
        )

    def _reached(self, pool: BudgetScope, goal: int, near: float, choices: Sequence[WidthChoice]) -> list[WidthChoice]:
        return [choice for choice in choices if pool.misses(choice.widths, goal) <= near]

    def _adjusted(self, pool: BudgetScope, goal: int, near: float, choice: WidthChoice) -> WidthChoice:
        """The choice with a few widths changed, so that it comes nearer to the goal."""
        losses, blocks = self.losses.of(pool.groups), replace(self.settings.blocks, size=choice.block)
        return replace(choice, widths=adjusted(pool, goal, losses, choice.widths, near, blocks, self._tuning))

    def _choice(self, pool: BudgetScope, goal: int, near: float, size: int) -> WidthChoice:
        """The widths with the least sum of the groups' own losses, for blocks of ``size``."""
        losses, blocks = self.losses.of(pool.groups), replace(self.settings.blocks, size=size)
        widths = balanced(pool, goal, losses, blocks, self._tuning)
        return WidthChoice(size, widths if blocks.strict else filled(pool, goal, losses, widths, near, PADDED))

    def _best(self, pool: BudgetScope, choices: Sequence[WidthChoice]) -> WidthChoice:
        """The candidate with the largest blocks among those whose loss is close to the least.

        The loss of the outputs is measured with all groups cut, before layers are solved. Where only noise is left of
        the outputs, the sum of the groups' own losses ranks the candidates better.
        """
        if len(choices) == 1:
            return choices[0]
        losses = self.losses.of(pool.groups)
        scores = [self._together(pool, choice.widths) for choice in choices]
        if min(scores) > self._tuning.comparable_noise:
            scores = [summed_loss(pool, losses, choice.widths) for choice in choices]
        least = min(scores)
        fair = [
            choice for choice, score in zip(choices, scores, strict=True) if score <= self._tolerance(choice) * least
        ]
        return max(fair, key=lambda choice: choice.block)

    def _tolerance(self, choice: WidthChoice) -> float:
        return self._tuning.padded_tolerance if choice.block == PADDED else self._tuning.block_tolerance

    def _together(self, pool: BudgetScope, choice: Mapping[Atom, int]) -> float:
        everything = {**pool.fixed, **choice}
        loss = self.losses.together(self.live, {g.name: everything.get(g.atom, g.size) for g in self.live})
        return math.inf if loss is None else loss

    def _solved(self, pool: BudgetScope, choice: Mapping[Atom, int]) -> float | None:
        everything = {**pool.fixed, **choice}
        return self.losses.solved(self.live, {g.name: everything.get(g.atom, g.size) for g in self.live})

    def _params(self, pool: BudgetScope, allocation: Allocation) -> int:
        """Parameters of the model with these widths."""
        widths = {**pool.fixed, **allocation.widths}
        plans = [self.planner.plan(group, widths.get(group.atom, group.size)) for group in self.live]
        smaller = apply_plans(self.analysis.typing, plans)
        drop_identity_layers(smaller, self.analysis.typing.identities)
        counted = _parameters(smaller, parameters(self.analysis.typing.graph))
        moved = (
            params_footprint(self.analysis.typing).total
            - params_footprint(self.analysis.typing, self.analysis.moved).total
        )
        return counted - moved + self.beside

    def _with_fixed(self, pool: BudgetScope, found: Allocation) -> Allocation:
        return replace(found, widths={**pool.fixed, **found.widths})


def _parameters(model: onnx.ModelProto, counted: Mapping[str, int]) -> int:
    """Parameters of a smaller model. ``counted``: constants that count (see `passes.cost.cost.parameters`)."""
    each = {t.name: counted.get(t.name, 0) if t.data_type in NON_FLOATS else 1 for t in model.graph.initializer}
    return sum(math.prod(t.dims) * each[t.name] for t in model.graph.initializer)


def _halves(size: int) -> list[int]:
    return [size // 2**i for i in range(size.bit_length()) if size % 2**i == 0]
