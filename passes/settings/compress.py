"""What to do to a model, and which of its groups that means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from passes.axes.channel_groups import ChannelGroup
from passes.interface.errors import PassError
from passes.settings.blocks import Blocks
from passes.settings.merge import MergeSettings
from passes.settings.target import Target
from passes.shapes.inference import Assignment


@dataclass(frozen=True)
class CompressSettings:
    """What to do.

    ``keep``: share of channels every group keeps, or ``target``: how much of the cost is to be left; ``allocation``:
    uniform, or auto, which spreads what that leaves over the groups; ``blocks``: of channels that widths are to be
    multiples of; ``lossless``: remove only what costs nothing; ``keep_layers``: (regular expression, share) pairs, the
    first whose expression is found in the name of one of a group's producers wins; ``exclude``: expressions for groups
    to leave whole; ``exclude_inputs``: for layers whose inputs are to stay; ``coupled``: whether groups that tie
    several layers shrink; ``method``: reconstruct, merge or prune; ``select``: a criterion of
    `passes.planning.criteria`;
    ``draft``: whether the result is only to have the right shapes, so that layers need not be solved; ``assignments``:
    concrete shapes of the inputs at which the model runs.
    """

    keep: float = 1.0
    target: Target | None = None
    allocation: str = "uniform"
    blocks: Blocks = Blocks()
    lossless: bool = False
    method: str = "merge"
    select: str = "l1"
    merge: MergeSettings = MergeSettings()
    coupled: bool = True
    draft: bool = False
    exclude: tuple[str, ...] = ()
    exclude_inputs: tuple[str, ...] = ()
    keep_layers: tuple[tuple[str, float], ...] = ()
    assignments: tuple[Assignment, ...] = ()


def exclusions(groups: Sequence[ChannelGroup], settings: CompressSettings) -> dict[str, str]:
    """Groups to leave whole, with the reason."""
    found: dict[str, str] = {}
    for expression in settings.exclude:
        matches = [g for g in groups if _matches(expression, g.producers)]
        if not matches:
            raise PassError(f"--exclude {expression!r} matches no layer; the first is {_first(groups)}")
        found.update({g.name: f"excluded by {expression!r}" for g in matches})
    for expression in settings.exclude_inputs:
        matches = [g for g in groups if _matches(expression, g.consumers)]
        if not matches:
            raise PassError(f"--exclude-inputs {expression!r} matches no layer that reads channels of others")
        found.update({g.name: f"read by what {expression!r} excludes" for g in matches if g.name not in found})
    if not settings.coupled:
        found.update({g.name: f"coupled: {g.coupled}" for g in groups if g.coupled and g.name not in found})
    return found


def own_ratios(groups: Sequence[ChannelGroup], settings: CompressSettings) -> dict[str, float]:
    """Group name -> the share that ``keep_layers`` give it."""
    ratios: dict[str, float] = {}
    for expression, ratio in settings.keep_layers:
        matches = [g for g in groups if _matches(expression, g.producers)]
        if not matches:
            raise PassError(f"--keep-layer {expression!r} matches no layer; the first is {_first(groups)}")
        for group in matches:
            ratios.setdefault(group.name, ratio)
    return ratios


def _matches(expression: str, layers: Sequence[str]) -> bool:
    try:
        return any(re.search(expression, name) for name in layers)
    except re.error as error:
        raise PassError(f"{expression!r} is not a regular expression: {error}") from error


def _first(groups: Sequence[ChannelGroup]) -> str:
    return repr(groups[0].name) if groups else "none: the model has no layer with weights that a rule knows"
