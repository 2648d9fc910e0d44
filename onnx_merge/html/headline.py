"""What a run did and how good its result is, in sentences and in a few figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnx_merge.html.number_text import byte_size, count, exact, milliseconds, percent, plural, signed, significant
from onnx_merge.io.base_name import base_name
from passes.settings.blocks import Blocks

Json = Mapping[str, Any]
VERDICTS = {"good": "Good", "bad": "Bad", "untested": "Not tested"}
METHOD_TEXTS = {
    "reconstruct": "the layers that read them were solved again on samples, to give what they gave before",
    "merge": "what they carried was merged into those that stay",
    "prune": "what they carried is gone",
    "lossless": "they carried nothing, so that the outputs are the same",
}
"""Method -> what became of removed channels."""
POINTS = ("accuracy", "agreement")
"""Measures whose loss is in percentage points."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure before and after. ``share``: after over before; None if that says nothing. ``note``: how it was
    measured. ``exact``: all digits."""

    label: str
    before: str
    after: str
    share: float | None
    note: str
    exact: str = ""


def headline(report: Json) -> str:
    """What was done, in a sentence."""
    cut = _cut(report)
    if not cut:
        return "No channel was removed: the model computes what it did."
    gone, whole = sum(g["size"] - g["kept"] for g in cut), sum(g["size"] for g in report["groups"])
    left = f"{_left(report, 'macs')} of the multiply-adds and {_left(report, 'bytes')} of the bytes are left"
    return f"{gone:,} of {plural(whole, 'channel')} were removed: {left}."


def manner(report: Json) -> str:
    """How it was done, in a sentence; ``""`` if nothing was."""
    cut = _cut(report)
    if not cut:
        return ""
    methods = [group["method"] for group in cut]
    method = max(dict.fromkeys(methods), key=methods.count)
    made = f"; {METHOD_TEXTS[method]}" if method in METHOD_TEXTS else ""
    then = f" The result was then converted to {report['options']['then']}." if report["options"].get("then") else ""
    return f"They went from {len(cut):,} of {plural(len(report['groups']), 'channel group')}{made}.{then}"


def _cut(report: Json) -> list[Json]:
    return [group for group in report["groups"] if group["kept"] < group["size"]]


def _left(report: Json, key: str) -> str:
    before, after = report["before"][key], report["after"][key]
    return percent(after / before) if before else "none"


def cost_figures(report: Json) -> Iterator[Figure]:
    """Size, multiply-adds, parameters, and latency where it was measured."""
    yield from _sizes(report)
    yield from _latency(report)


def _sizes(report: Json) -> Iterator[Figure]:
    for label, key, shown in (
        ("Size", "bytes", byte_size),
        ("Multiply-adds", "macs", count),
        ("Parameters", "params", count),
    ):
        before, after = report["before"][key], report["after"][key]
        digits = f"{exact(before)} \N{RIGHTWARDS ARROW} {exact(after)}"
        note = "of one sample, or of a fixed batch" if key == "macs" else ""
        yield Figure(label, shown(before), shown(after), after / before if before else None, note, digits)


def _latency(report: Json) -> Iterator[Figure]:
    latency = report["latency"]
    for one in latency["batches"] if latency else ():
        threads = "" if one["threads"] is None else f", {plural(one['threads'], 'thread')}"
        runs = f"medians of {plural(one['runs'], 'run')}; share: of runs side by side"
        note = f"batch {one['batch']}, {one['provider']}{threads}; {runs}"
        tails = f"90th percentile {milliseconds(one['before_p90_ms'])} \N{RIGHTWARDS ARROW} "
        tails += milliseconds(one["after_p90_ms"])
        before, after = milliseconds(one["before_ms"]), milliseconds(one["after_ms"])
        yield Figure("Latency", before, after, one["ratio"], note, tails)


def quality(report: Json) -> Iterator[Figure]:
    """The user's metric, the accuracy, and how far the outputs are from the original's, where they were measured."""
    metric, accuracy, fidelity = report["metric"], report["accuracy"], report["fidelity"]
    if metric:
        before, after = metric["before"], metric["after"]
        lost = f"{signed(after - before, 4)}, " if before is not None and after is not None else ""
        note = f"{lost}on {plural(metric['samples'], 'sample')}"
        yield Figure(base_name(metric["name"]), significant(before, 5), significant(after, 5), None, note)
    if accuracy and accuracy["before"] is not None and accuracy["after"] is not None:
        before, after = accuracy["before"], accuracy["after"]
        note = f"{signed(after - before)} points, on {plural(accuracy['samples'], 'labelled sample')}"
        yield Figure("Top-1 accuracy", f"{before:.2f}%", f"{after:.2f}%", None, note)
    worst = next((output for output in fidelity["outputs"] if output["changed"] is not None), None)
    if worst:
        bounds = f"{percent(worst['changed_low'])} to {percent(worst['changed_high'])} at 95% confidence"
        yield Figure("Change of class", "", percent(worst["changed"]), None, bounds)
    loudest = max((output["nsr"] for output in fidelity["outputs"] if output["nsr"] is not None), default=None)
    if loudest is not None and not worst:
        scale = "in the outputs; 0: the same, 1: no better than their mean"
        yield Figure("Noise over signal", "", significant(loudest), None, scale)


def verdict_title(fidelity: Json) -> str:
    """The verdict in one or two words."""
    return VERDICTS[fidelity["verdict"]]


def evidence(fidelity: Json) -> str:
    """The samples that the verdict rests on, in a sentence."""
    if not fidelity["samples"]:
        return "The outputs were not compared with the original's."
    kind = "" if fidelity["real"] else "made-up "
    place = base_name((fidelity["source"] or "").partition(" ")[2])
    of = f" of {place}" if place and fidelity["real"] else ""
    text = f"Outputs were compared on {fidelity['samples']:,} {kind}samples{of}"
    fitted = fidelity["fitted"]
    if fidelity["in_sample"]:
        return f"{text}, to which layers were fitted too."
    if fitted is not None:
        others = "made-up sample" if fidelity["real"] and fidelity["fitted_made_up"] else "other sample"
        return f"{text}, held out: layers were fitted to {plural(fitted, others)}."
    return f"{text}; no layer was fitted to samples."


def unmeasured_task(report: Json) -> str:
    """What the figures do not show, in a sentence: the outputs were compared, not what they are used for; ``""`` if a
    measure of that is among them."""
    if report["metric"] or report["accuracy"] or not report["fidelity"]["samples"]:
        return ""
    return "What the model is used for was not measured: that takes --labels or --metric."


def whole_groups_text(report: Json) -> str:
    """Why groups that could be cut were left whole, in a sentence; ``""`` if none was."""
    if not any(group["status"] == "kept" for group in report["groups"]):
        return ""
    reasons = []
    if report["options"].get("allocation", "auto") == "auto" and not report["options"].get("plan"):
        reasons.append("cutting others costs the outputs less")
    if widths := widths_text(report):
        reasons.append(f"widths are {widths}")
    because = f": {', or '.join(reasons)}" if reasons else ""
    return f"Groups left whole could be cut, but all their channels are kept at this size{because}."


def widths_text(report: Json) -> str:
    """What channel widths are multiples of; ``""`` if any width was allowed."""
    allocation = report["allocation"]
    if not allocation or allocation["block"] <= 1:
        return ""
    sizes = (group["size"] for group in report["groups"] if group["status"] in ("shrunk", "kept"))
    return Blocks(allocation["block"], allocation["strict"]).said_of(sizes)


def promise_text(promise: Json | None) -> str:
    """What is promised of samples that nobody has seen, in a sentence; ``""`` if nothing is."""
    if promise is None:
        return ""
    lost = f"it loses at most {promised_loss(promise['max_drop'], promise['measure'])}"
    confidence = f"with confidence {promise['confidence']:g}"
    return f"Promised: {lost}, {confidence}, on samples like the {promise['samples']:,} held out."


def promised_loss(max_drop: float, measure: str) -> str:
    """The loss that a promise allows, with its unit: ``1 point of accuracy``."""
    points = "" if measure not in POINTS else " point" if max_drop == 1 else " points"
    return f"{max_drop:g}{points} of {measure}"
