"""The page of a run, and the card that notebooks show, from the JSON report of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_merge.html.charts import LEVELS, WHOLE, error_level, histogram, loss_curve, network_chart
from onnx_merge.html.headline import (
    cost_figures,
    evidence,
    headline,
    manner,
    promise_text,
    quality,
    unmeasured_task,
    verdict_title,
    whole_groups_text,
    widths_text,
)
from onnx_merge.html.number_text import count, percent, plural
from onnx_merge.html.rendering import rendered
from onnx_merge.html.reproduction import call, command
from onnx_merge.io.base_name import base_name
from onnx_merge.tuning.pages import PAGES

Json = Mapping[str, Any]
STATUSES = {"shrunk": "cut", "kept": "left whole", "frozen": "cannot be cut", "excluded": "excluded"}
"""Status of a group in the report -> its words."""
METHODS = {"none": "", "reconstruct": "solved again", "lossless": "exact"}
"""Method in the report -> its words; others are shown as they are."""


def run_page(report: Json, pictures: Mapping[int, str] | None = None) -> str:
    """Return the page of a run. ``report``: as `onnx_merge.report.result.Result.to_dict` returns it. ``pictures``:
    sample -> data URI, of samples that may be shown."""
    fidelity = report["fidelity"]
    differences = fidelity["differences"]
    errors = {group["name"]: group["error"] for group in report["groups"]}
    return rendered(
        "run.html",
        **_common(report),
        groups=[_group(k, group) for k, group in enumerate(report["groups"])],
        statuses=_present(report["groups"]),
        whole_groups=whole_groups_text(report),
        widths=widths_text(report),
        layers=_layers(report, errors),
        chart=_chart(report["layers"], report["groups"]),
        levels=LEVELS,
        curves=any(group["losses"] for group in report["groups"]),
        outputs=fidelity["outputs"],
        changes=[
            (output["name"], output["class_changes"][: PAGES.most_class_changes]) for output in fidelity["outputs"]
        ],
        differences=differences,
        histogram=histogram(differences["edges"], differences["counts"]) if differences else None,
        pictures=pictures or {},
        batches=list(dict.fromkeys(batch for one in report["formats"] for batch in one["latency_ms"])),
        command=command(report["argv"]),
        call=call(report["options"], base_name(report["input"]["path"]), base_name(report["output"]["path"])),
    )


def run_card(report: Json) -> str:
    """Return a fragment with the main figures of a run and its groups."""
    groups = [_group(k, group) for k, group in enumerate(report["groups"])]
    return rendered("card.html", **_common(report), groups=groups)


def _common(report: Json) -> dict[str, object]:
    return {
        "report": report,
        "title": base_name(report["output"]["path"]) or base_name(report["input"]["path"]) or "model in memory",
        "headline": headline(report),
        "manner": manner(report),
        "quality": list(quality(report)),
        "costs": list(cost_figures(report)),
        "fidelity": report["fidelity"],
        "verdict_title": verdict_title(report["fidelity"]),
        "evidence": evidence(report["fidelity"]),
        "promise": promise_text(report["promise"]),
        "unmeasured": unmeasured_task(report),
    }


def _present(groups: Sequence[Json]) -> dict[str, str]:
    """The statuses that groups have, with their words."""
    found = {group["status"] for group in groups}
    return {status: words for status, words in STATUSES.items() if status in found}


def _group(index: int, group: Json) -> dict[str, object]:
    whole = group["status"] != "shrunk"
    return {
        **group,
        "id": f"g{index}",
        "level": WHOLE if whole else error_level(group["error"]),
        "share": group["kept"] / group["size"] if group["size"] else 1.0,
        "words": STATUSES[group["status"]],
        "how": METHODS.get(group["method"], group["method"]),
        "curve": loss_curve(group["losses"], group["size"], group["kept"]),
    }


def _layers(report: Json, errors: Mapping[str, float | None]) -> list[dict[str, object]]:
    widest = max((layer["size"] for layer in report["layers"]), default=1) or 1
    levels = _levels(report["layers"], report["groups"])
    return [
        {
            **layer,
            "level": level,
            "outline": round(100 * layer["size"] / widest, 2),
            "filled": round(100 * layer["kept"] / widest, 2),
            "error": errors.get(layer["group"] or ""),
        }
        for layer, level in zip(report["layers"], levels, strict=True)
    ]


def _levels(layers: Sequence[Json], groups: Sequence[Json]) -> list[str]:
    errors = {group["name"]: group["error"] for group in groups if group["status"] == "shrunk"}
    return [WHOLE if layer["kept"] == layer["size"] else error_level(errors.get(layer["group"])) for layer in layers]


def _chart(layers: Sequence[Json], groups: Sequence[Json]) -> object:
    ids = {group["name"]: f"g{k}" for k, group in enumerate(groups)}
    errors = {group["name"]: group["error"] for group in groups}
    titles = list(_titles(layers, errors))
    return network_chart(layers, _levels(layers, groups), titles, [ids.get(layer["group"], "") for layer in layers])


def _titles(layers: Sequence[Json], errors: Mapping[str, float | None]) -> Iterator[str]:
    for layer in layers:
        error = errors.get(layer["group"]) if layer["kept"] < layer["size"] else None
        tail = "" if error is None else f"; error {percent(error)}"
        channels = f"{layer['size']:,} \N{RIGHTWARDS ARROW} {plural(layer['kept'], 'channel')}"
        macs = f"{count(layer['macs'])} \N{RIGHTWARDS ARROW} {count(layer['macs_kept'])} MACs"
        yield f"{layer['name']} ({layer['op']}): {channels}; {macs}{tail}"
