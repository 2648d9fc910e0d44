"""Compresses control-flow bodies: their settings, their cost and the note on their method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from passes.allocation.subgraph_budget import Shares, parameters_of
from passes.analysis.known import Analysis
from passes.compress.compressed import CompressedBody
from passes.compress.scope import GroupScope
from passes.settings.compress import CompressSettings


def body_settings(analysis: Analysis, settings: CompressSettings, scope: GroupScope) -> CompressSettings:
    """Settings for the bodies of a model.

    Every group in a body keeps the same share. Bodies are merged by weights, since there are no statistics of the
    tensors inside them.
    """
    keep = settings.keep
    if settings.target is not None:
        keep = _shares(analysis, settings, scope).inside_for(settings.target.ratio)
    method = "merge" if settings.method == "reconstruct" else settings.method
    return replace(settings, keep=keep, target=None, allocation="uniform", method=method)


def cost_of_bodies(
    analysis: Analysis, settings: CompressSettings, scope: GroupScope, inside: Sequence[CompressedBody]
) -> int:
    """Cost of the compressed bodies in the unit of the target: parameters or multiply-adds."""
    if settings.target is None or not inside:
        return 0
    if settings.target.kind == "params":
        return sum(parameters_of(one.compressed.model, one.body.shared) for one in inside)
    plans = (plan for one in inside for plan in one.compressed.every_plan)
    return _shares(analysis, settings, scope).inside({plan.group.atom: len(plan.keep) for plan in plans})


def merged_inside(settings: CompressSettings, inside: Sequence[CompressedBody]) -> tuple[str, ...]:
    """A note if bodies were merged by weights although the method was reconstruct."""
    first = next((one.body.where for one in inside if one.shrinks), None)
    if settings.method != "reconstruct" or settings.lossless or first is None:
        return ()
    return (f"merged by weights inside {first.rstrip('/')}: samples do not show what control-flow bodies compute",)


def _shares(analysis: Analysis, settings: CompressSettings, scope: GroupScope) -> Shares:
    kind = settings.target.kind if settings.target else "macs"
    return Shares(analysis, kind, settings.blocks, scope.excluded.keys(), scope.own)
