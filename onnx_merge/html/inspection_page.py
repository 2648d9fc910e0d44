"""The page of an inspection, from its JSON report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnx_merge.html.charts import network_chart
from onnx_merge.html.number_text import count, percent, plural
from onnx_merge.html.rendering import rendered
from onnx_merge.io.base_name import base_name
from onnx_merge.tuning.pages import PAGES

Json = Mapping[str, Any]
STATUSES = {
    "free": "can be cut and merged",
    "prune-only": "can be cut, not merged",
    "project-only": "mixtures can take their place",
    "frozen": "cannot be cut",
}
"""Status of a group in the report -> its words."""
ELSEWHERE = {**STATUSES, "none": "in no group"}


def inspection_page(report: Json) -> str:
    """Return the page. ``report``: as `onnx_merge.inspection.findings.Inspection.to_dict` returns it."""
    groups = report["groups"]
    listed = groups
    if len(groups) > PAGES.most_groups:
        costly = sorted(range(len(groups)), key=lambda k: -groups[k]["macs_share"])[: PAGES.most_groups]
        listed = [groups[k] for k in sorted(costly)]
    ids = {group["name"]: f"g{k}" for k, group in enumerate(listed)}
    known = {group["name"]: group["status"] for group in groups}
    layers = [{**layer, "kept": layer["size"], "macs_kept": layer["macs"]} for layer in report["layers"]]
    statuses = [known.get(layer["group"], "none") for layer in layers]
    widest = max((layer["size"] for layer in layers), default=1) or 1
    return rendered(
        "inspect.html",
        report=report,
        title=base_name(report["input"]["path"]) or "model in memory",
        sentence=_sentence(report),
        groups=[{**group, "id": ids[group["name"]]} for group in listed],
        left_out=len(groups) - len(listed),
        statuses=STATUSES,
        chosen={status: words for status, words in STATUSES.items() if status in {*known.values()}},
        parts_of_it=_parts(report),
        words=ELSEWHERE,
        layers=[
            {**layer, "status": status, "width": round(100 * layer["size"] / widest, 2)}
            for layer, status in zip(layers, statuses, strict=True)
        ],
        chart=network_chart(layers, statuses, list(_titles(layers)), [ids.get(layer["group"], "") for layer in layers]),
    )


def _sentence(report: Json) -> str:
    groups = report["groups"]
    if not groups:
        return "The model has no channel groups: nothing can be removed."
    cut = report["summary"]["free"]
    many = plural(len(groups), "channel group")
    shares = f"{percent(cut['macs_share'])} of the multiply-adds and {percent(cut['params_share'])} of the parameters"
    text = f"{cut['groups']:,} of {many} can be cut and merged; {shares} depend on their channels."
    pruned = report["summary"].get("prune-only", {"groups": 0, "macs_share": 0.0})
    if pruned["groups"]:
        text += f" {pruned['groups']:,} more can be cut, but not merged."
    projected = report["summary"].get("project-only", {"groups": 0})
    if projected["groups"]:
        text += f" In {projected['groups']:,} more, mixtures can take the channels' place."
    return text


def _parts(report: Json) -> list[dict[str, object]]:
    """Share of the multiply-adds by status. Layers between two groups count for both, so the sum may exceed 1; the
    widths of the bar are shares of the sum."""
    held = [(status, report["summary"].get(status)) for status in ELSEWHERE]
    found = [(status, holding) for status, holding in held if holding and (holding["groups"] or holding["macs_share"])]
    total = sum(holding["macs_share"] for _, holding in found) or 1.0
    return [
        {
            **holding,
            "status": status,
            "words": ELSEWHERE[status],
            "width": round(100 * holding["macs_share"] / total, 2),
        }
        for status, holding in found
    ]


def _titles(layers: list[dict[str, Any]]) -> Iterator[str]:
    for layer in layers:
        yield f"{layer['name']} ({layer['op']}): {plural(layer['size'], 'channel')}; {count(layer['macs'])} MACs"
