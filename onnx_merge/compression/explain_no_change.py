"""Explains why no channel of a model can be removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from onnx_merge.report.group_result import GroupResult
from passes.analysis.ungrouped import Ungrouped
from passes.interface.reason import text


def explain_no_change(
    lossless: bool,
    groups: Sequence[GroupResult],
    quantised: str | None = None,
    left: Sequence[Ungrouped] = (),
    block: int = 1,
    kept_by_name: bool = False,
) -> str:
    """The reason that holds back most channels.

    ``lossless``: whether only redundant channels were to be removed. ``quantised``: a node that cannot be cut since it
    is quantised. ``left``: layers whose channels are in no group. ``block``: number of channels of which widths had to
    be multiples. ``kept_by_name``: whether layers were named that keep a share or channels of their own.
    """
    held = [group for group in groups if group.status != "frozen"]
    if quantised is not None and not held:
        return f"nothing can be removed: {quantised} is quantised: compress first, then quantise"
    if not groups:
        return f"nothing to compress: {why_no_groups(left)}"
    kept = [group for group in held if group.status == "kept"]
    projected = [group for group in kept if group.reason is not None and group.reason.kind == "operator"]
    if projected and (kept_by_name or len(projected) == len(kept)):
        lossy = "use --keep 0.9, which is not lossless"
        remedy = lossy if lossless else "leave --method and --select at auto, with samples"
        first = projected[0]
        return f"no channel can be removed alone, only mixtures can: {first.name}: {text(first.reason)}: {remedy}"
    if lossless and kept:
        return (
            f"no channel is free (none is known to be dead, constant or parallel to another{_not_merged(held)}): use "
            "--keep 0.9, which is not lossless"
        )
    if not lossless and kept:
        if block > 1:
            return f"no group can lose a block of {block} channels at this share: use a smaller --keep or --align 1"
        if kept_by_name:
            return "no group loses a channel at these shares: use a smaller one, in --keep-layer too"
        return "the groups are too small to lose a channel at this share: use a smaller --keep"
    channels: Counter[str] = Counter()
    for group in held or groups:
        channels[text(group.reason) or "unknown"] += group.size
    reason = channels.most_common(1)[0][0]
    same = [group for group in held or groups if (text(group.reason) or "unknown") == reason]
    names = [group.name for group in same]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    remedy = ""
    if held:
        remedy = ": leave out --no-coupled" if same[0].reason and same[0].reason.causes else ": exclude less"
    beside = "" if held else _beside(left)
    return f"none of the {len(groups)} channel groups can shrink: {names[0]}{more}: {reason}{remedy}{beside}"


def _not_merged(groups: Sequence[GroupResult]) -> str:
    """The groups in which only dead channels were looked for, and why."""
    own = [group for group in groups if group.status == "kept" and group.reason and group.reason.causes]
    if not own or own[0].reason is None:
        return ""
    where = f"{len(own)} groups, such as {own[0].name}," if len(own) > 1 else own[0].name
    return f"; in {where} only dead ones were looked for, since {own[0].reason.causes[0]}"


def _beside(left: Sequence[Ungrouped]) -> str:
    """Why the largest layer with weights is in no group: where all groups are frozen, it may hold most of the model."""
    layers = [layer for layer in left if layer.macs and layer.params]
    return f"; in no group: {_largest(layers).reason}" if layers else ""


def why_no_groups(left: Sequence[Ungrouped]) -> str:
    """Why a model has no channel group. ``left``: its layers."""
    if not left:
        return "the model has no layer with weights whose channels could be removed"
    layers = "its only layer makes no" if len(left) == 1 else f"none of its {len(left)} layers makes"
    return f"{layers} channels that could be removed: {_largest(left).reason}"


def _largest(layers: Sequence[Ungrouped]) -> Ungrouped:
    return max(layers, key=lambda layer: (layer.macs, layer.params))
