"""Formats an inspection as text: every channel group with its costs, and the reasons that limit the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.inspection.findings import Holding, InspectedGroup, Inspection, Status
from onnx_merge.report.columns import fitted_table
from onnx_merge.report.console import UNCUT_WIDTH, printed, screen_width

STYLES: dict[Status, str] = {"free": "", "prune-only": "yellow", "project-only": "yellow", "frozen": "dim"}
MAX_REASONS = 12
"""Number of reasons shown, the most costly ones."""


def render(inspection: Inspection, stream: TextIO, verbose: bool = False, group: str | None = None) -> str:
    """The tables as ``stream`` can show them. All members are shown of the groups that the expression ``group``
    matches.

    Raises
    ------
    UsageError: it matches none.
    """
    width = UNCUT_WIDTH if verbose else screen_width(stream)
    chosen = None if group is None else inspection.matching(group)
    parts = _overview(inspection, width) if chosen is None else _details(inspection, chosen, width)
    return printed(parts, stream, verbose)


def _head(inspection: Inspection) -> Text:
    model = inspection.model
    path = inspection.input.path
    facts = f"{model.nodes:,} nodes, {model.params:,} parameters, {model.macs:,} MACs, opset {model.opset}"
    return Text(f"{path}: {facts}" if path else facts, style="bold")


def _overview(inspection: Inspection, width: int) -> Iterator[RenderableType]:
    yield _head(inspection)
    yield from (Text(f"note: {note}", style="yellow") for note in inspection.notes)
    if "plugins" in inspection.environment:
        yield Text(f"plug-ins: {inspection.environment['plugins']}")
    if inspection.groups:
        yield Text()
        yield from _groups(inspection.groups, width) if width < UNCUT_WIDTH else _blocks(inspection.groups)
        yield Text()
        yield from _summary(inspection, width)
    yield from _ungrouped(inspection, width)
    yield from _blocked(inspection, width)


def _groups(groups: Sequence[InspectedGroup], width: int) -> Iterator[RenderableType]:
    """One row for each group. The details hold what does not fit in a row."""

    def columns(names: int | None) -> dict[str, list[str]]:
        return {
            "group": [g.name for g in groups],
            "size": [f"{g.size}" for g in groups],
            "MACs": [_percent(g.macs_share) for g in groups],
            "params": [_percent(g.params_share) for g in groups],
            "status": [_status(g, named=names is None) for g in groups],
            "coupled": [_coupled(g, names) for g in groups],
            "consumers": [_some(g.consumers, names) for g in groups],
        }

    caption = "MACs, params: what depends on the group's channels; a layer between two groups counts for both"
    forms = [columns(names) for names in (None, 2, 1)]  # all layers and whole reasons, or a few and the gist
    yield from fitted_table(forms, width, caption, [STYLES[g.status] for g in groups])


def _blocks(groups: Sequence[InspectedGroup]) -> Iterator[RenderableType]:
    """A block of lines for each group, with all of its layers and the whole reason, which are too long for a table."""
    for k, group in enumerate(groups):
        if k:
            yield Text()
        yield from _block(group)
        yield Text(f"  producers: {', '.join(group.producers)}")
        yield Text(f"  consumers: {', '.join(group.consumers) or 'none'}")


def _block(group: InspectedGroup) -> Iterator[Text]:
    shares = f"{_percent(group.macs_share)} of the MACs, {_percent(group.params_share)} of the parameters"
    yield Text(f"{group.name}: {group.size} channels, {shares}", style="bold")
    yield Text(f"  {_status(group)}", style=STYLES[group.status])
    if group.coupled:
        yield Text(f"  coupled: {group.coupled}")
    if group.status == "frozen" and group.unmixable:
        yield Text(f"  nor could removed channels be merged: {group.unmixable}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _status(group: InspectedGroup, named: bool = True) -> str:
    """``named``: includes the names of nodes and tensors."""
    status = group.status.replace("-", " ")
    if group.reason is None:
        return status
    return f"{status}: {group.reason if named else group.reason.general}"


def _coupled(group: InspectedGroup, names: int | None) -> str:
    """The other layers that produce the channels, or the tensor that joins them to others."""
    if len(group.producers) > 1:
        return f"with {_some(group.producers[1:], names)}"
    if group.coupled is None:
        return ""
    return str(group.coupled.general if names else group.coupled)


def _some(names: Sequence[str], count: int | None) -> str:
    shown = names if count is None else names[:count]
    return ", ".join(shown) + (f" +{len(names) - len(shown)}" if len(names) > len(shown) else "")


def _summary(inspection: Inspection, width: int) -> Iterator[RenderableType]:
    """The parts that can shrink and those that cannot, then the reasons."""
    words = {
        "free": "free: channels can be removed and merged",
        "prune-only": "prune only: removed channels cannot be merged",
        "project-only": "project only: mixtures can take the channels' place, by samples",
        "frozen": "frozen: nothing can be removed",
        "none": "in no group",
    }
    rows = [(words[status], holding) for status, holding in inspection.summary.items()]
    rows = [(text, holding) for text, holding in rows if holding.groups or text in (words["free"], words["none"])]
    yield from _holdings("all groups", rows, width)
    reasons = inspection.reasons if width >= UNCUT_WIDTH else inspection.reasons[:MAX_REASONS]
    if reasons:
        yield Text()
        rows = [
            (f"{r.status.replace('-', ' ')}: {r.reason}", Holding(r.groups, r.macs_share, r.params_share))
            for r in reasons
        ]
        yield from _holdings("why groups are not free", rows, width)
    if len(reasons) < len(inspection.reasons):
        yield Text(f"({len(inspection.reasons) - len(reasons)} more reasons; -v shows all)", style="dim")


def _holdings(title: str, rows: Sequence[tuple[str, Holding]], width: int) -> Iterator[RenderableType]:
    columns = {
        title: [text for text, _ in rows],
        "groups": [f"{holding.groups}" if holding.groups else "" for _, holding in rows],
        "MACs": [_percent(holding.macs_share) for _, holding in rows],
        "params": [_percent(holding.params_share) for _, holding in rows],
    }
    yield from fitted_table([columns], width)


def _ungrouped(inspection: Inspection, width: int) -> Iterator[RenderableType]:
    """Layers in no group: all, or the most costly ones."""
    layers = inspection.ungrouped
    if not layers:
        return
    shown = layers
    if width < UNCUT_WIDTH:
        shown = tuple(sorted(layers, key=lambda layer: (-layer.macs_share, -layer.params_share))[:MAX_REASONS])
    yield Text()
    columns = {
        "layer in no group": [layer.node for layer in shown],
        "MACs": [_percent(layer.macs_share) for layer in shown],
        "params": [_percent(layer.params_share) for layer in shown],
        "because": [str(layer.reason if width >= UNCUT_WIDTH else layer.reason.general) for layer in shown],
    }
    yield from fitted_table([columns], width)
    if len(shown) < len(layers):
        yield Text(f"({len(layers) - len(shown)} more layers; -v shows all)", style="dim")


def _blocked(inspection: Inspection, width: int) -> Iterator[RenderableType]:
    """Nodes for which a rule or a fold is missing."""
    if inspection.ops_without_rule:
        yield Text()
        ops = inspection.ops_without_rule
        columns = {"op without a rule": list(ops), "nodes": [f"{count}" for count in ops.values()]}
        yield from fitted_table([columns], width, "they freeze every axis that they touch")
    if inspection.unfolded:
        yield Text()
        rows = [(name, str(reason)) for name, reason in inspection.unfolded.items()]
        if width < UNCUT_WIDTH:
            counted = Counter(reason.general for reason in inspection.unfolded.values())
            rows = [(f"{count}", str(reason)) for reason, count in counted.most_common()]
        title = "BatchNormalization not folded" if width >= UNCUT_WIDTH else "nodes"
        columns = {title: [first for first, _ in rows], "BatchNormalization not folded, because": [r for _, r in rows]}
        yield from fitted_table([columns], width)


def _details(inspection: Inspection, chosen: Iterable[InspectedGroup], width: int) -> Iterator[RenderableType]:
    """Each group with all its members."""
    yield _head(inspection)
    for group in chosen:
        yield Text()
        yield from _block(group)
        members = group.members
        columns = {
            "node": [m.node for m in members],
            "op": [m.op for m in members],
            "role": [m.role for m in members],
            "axis": [f"{m.axis}" for m in members],
            "shape": ["x".join("?" if n is None else f"{n}" for n in m.shape) for m in members],
            "tensor": ["" if m.role == "passes through" else m.tensor for m in members],  # the node's output
        }
        yield from fitted_table([columns], width)
