"""Determines which groups may shrink under the settings, and which have a share set by the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passes.analysis.known import Analysis
from passes.axes.channel_groups import ChannelGroup
from passes.interface.reason import Reason
from passes.settings.compress import CompressSettings, exclusions, own_ratios
from passes.settings.tuning import TUNING


@dataclass(frozen=True)
class GroupScope:
    """``excluded``: group name -> why it stays whole; ``live``: groups that may shrink; ``own``: group name -> the
    share that the user set for it; ``loses``: whether channels that are not redundant may be removed too."""

    excluded: Mapping[str, Reason]
    live: list[ChannelGroup]
    own: Mapping[str, float]
    loses: bool


def group_scope(analysis: Analysis, settings: CompressSettings, outer: GroupScope | None = None) -> GroupScope:
    """The scope of a model, or of a control-flow body in a model with the scope ``outer``.

    Raises
    ------
    PassError: an expression of the settings matches no layer.
    """
    groups = analysis.every_group
    excluded = {**_too_wide(groups), **(exclusions(groups, settings) if outer is None else outer.excluded)}
    own = own_ratios(groups, settings) if outer is None else outer.own
    live = [g for g in analysis.groups if not g.frozen and g.name not in excluded]
    ratios = (settings.keep, settings.target.ratio if settings.target else 1.0, *own.values())
    loses = settings.kept is not None or min(ratios) < 1.0
    return GroupScope(excluded, live, own, not settings.lossless and loses)


def _too_wide(groups: Sequence[ChannelGroup]) -> dict[str, Reason]:
    """Groups that norms read, and that have too many channels for matrices of all pairs of them."""
    most = TUNING.numerics.subset.most_greedy
    return {g.name: g.normalised for g in groups if g.normalised is not None and g.size > most}
