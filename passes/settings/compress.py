"""Defines the settings of a compression, and applies their expressions to channel groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passes.axes.channel_groups import ChannelGroup
from passes.interface.errors import PassError
from passes.interface.reason import Reason
from passes.settings.blocks import Blocks
from passes.settings.merge import MergeSettings
from passes.settings.target import Target
from passes.shapes.inference import Assignment

EFFORTS = ("low", "medium", "high")
"""How much time is spent on a result: on refining the layers together, which is left out at low effort
(`passes.reconstruction.distillation`), and on made-up samples (`passes.samples.matched_samples`)."""


@dataclass(frozen=True)
class CompressSettings:
    """Settings of one compression.

    ``keep``: share of channels that every group keeps; ``target``: the cost to reach, instead of ``keep``;
    ``allocation``: uniform, or auto, which spreads the same cost over the groups by their losses; ``blocks``: of which
    widths are multiples; ``lossless``: remove only redundant channels; ``method``: reconstruct, merge or prune;
    ``select``: auto or a criterion of `passes.planning.criteria`; ``coupled``: whether groups that tie several layers
    may shrink; ``draft``: only the shapes of the result matter, so that no layer is solved; ``effort``: one of
    `EFFORTS`; ``exclude``: regular expressions for groups to leave whole; ``exclude_inputs``: for layers whose input
    channels stay; ``keep_layers``: (regular expression, share) pairs, of which the first that is found in the name of
    one of a group's producers applies; ``assignments``: concrete shapes of the inputs at which the model runs;
    ``kept``: group name -> channels to keep, instead of choosing any, with all of the other groups.
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
    effort: str = "low"
    exclude: tuple[str, ...] = ()
    exclude_inputs: tuple[str, ...] = ()
    keep_layers: tuple[tuple[str, float], ...] = ()
    assignments: tuple[Assignment, ...] = ()
    kept: Mapping[str, tuple[int, ...]] | None = None


def exclusions(groups: Sequence[ChannelGroup], settings: CompressSettings) -> dict[str, Reason]:
    """Name of each group to leave whole -> reason.

    Raises
    ------
    PassError: an expression matches no layer, or is not a regular expression.
    """
    found: dict[str, Reason] = {}
    for expression in settings.exclude:
        matches = [g for g in groups if _matches(expression, g.producers)]
        if not matches:
            raise PassError(f"`exclude` {expression!r} matches no layer; the first is {_first(groups)}")
        reason = Reason("excluded", "", f"excluded by {expression!r}")
        found.update({g.name: reason for g in matches})
    for expression in settings.exclude_inputs:
        matches = [g for g in groups if _matches(expression, g.consumers)]
        if not matches:
            raise PassError(f"`exclude_inputs` {expression!r} matches no layer that reads channels of others")
        reason = Reason("excluded", "", f"read by what {expression!r} excludes")
        found.update({g.name: reason for g in matches if g.name not in found})
    if not settings.coupled:
        coupled = [(g.name, g.coupled) for g in groups if g.coupled and g.name not in found]
        found.update({name: Reason("excluded", "", "coupled", causes=(why,)) for name, why in coupled})
    return found


def own_ratios(groups: Sequence[ChannelGroup], settings: CompressSettings) -> dict[str, float]:
    """Group name -> the share that ``keep_layers`` give it.

    Raises
    ------
    PassError: an expression matches no layer, or is not a regular expression.
    """
    ratios: dict[str, float] = {}
    for expression, ratio in settings.keep_layers:
        matches = [g for g in groups if _matches(expression, g.producers)]
        if not matches:
            raise PassError(f"`keep_layers` {expression!r} matches no layer; the first is {_first(groups)}")
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
