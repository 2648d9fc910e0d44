"""Format a sweep as text: a row for each share, and the knee."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.html.number_text import milliseconds
from onnx_merge.report.console import UNCUT_WIDTH, printed, screen_width
from onnx_merge.report.table import GAP, plain_table, shortened
from onnx_merge.sweeping.result import Metric, Point, Sweep

TITLES: dict[Metric, str] = {
    "metric": "metric",
    "accuracy": "accuracy",
    "top1_agreement": "same class",
    "nsr": "noise/signal",
}
KNEE = "<- knee"
MAX_NAME_WIDTH = 24
"""Maximum width of a metric's name."""


def render(sweep: Sweep, stream: TextIO, verbose: bool = False) -> str:
    """The table in the encoding of ``stream``; see `onnx_merge.report.console.printed`."""
    return printed(_parts(sweep, UNCUT_WIDTH if verbose else screen_width(stream)), stream, verbose)


def _parts(sweep: Sweep, width: int) -> Iterator[RenderableType]:
    yield from (Text(f"note: {note}", style="yellow") for note in sweep.notes)
    if "plugins" in sweep.environment:
        yield Text(f"plug-ins: {sweep.environment['plugins']}")
    metric = sweep.metric
    timed = {latency.batch: latency.before_ms for point in reversed(sweep.points) for latency in point.latency}
    table = plain_table()
    for title in (
        "keep",
        "MACs",
        "params",
        "bytes",
        *([_title(sweep, metric)] if metric else []),
        *(["latency"] if len(timed) == 1 else [f"batch {batch}" for batch in sorted(timed)]),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="crop")
    whole = [f"{sweep.before.bytes:,}"]
    if metric is not None:
        whole.append(quality_text(metric, sweep.original(metric)))
    whole += [milliseconds(timed[batch]) for batch in sorted(timed)]
    whole.append("")
    shares = (list(_cells(sweep, point, sorted(timed))) for point in sweep.points)
    rows = [["original", "1.000", "1.000", *whole], *shares]
    titles = [f"{column.header}" for column in table.columns]
    room = width - sum(max(map(len, column)) + GAP for column in zip(titles, *rows, strict=False))
    table.add_row(*rows[0], "")
    below: list[str] = []  # reasons that do not fit beside their row
    for point, row in zip(sweep.points, rows[1:], strict=True):
        style = "bold" if point is sweep.knee else "dim" if point.status != "done" else ""
        remark = _remark(sweep, point)
        if len(remark) > room and point is not sweep.knee:
            below.append(shortened(f"keep {point.keep:g}  {remark}", width))
            remark = point.status
        table.add_row(*row, remark, style=style)
    yield table
    yield from (Text(line, style="dim") for line in below)
    yield Text()
    if all(point.cost is None for point in sweep.points):
        yield Text("nothing was written")
        return
    if sweep.knee is not None:
        alone = "no other is smaller or better"
        why = "farthest above the chord between the frontier's ends, by MACs" if len(sweep.frontier) > 1 else alone
        yield Text(f"knee      keep {sweep.knee.keep:g}: {why}")
    elif metric is not None:
        yield Text("knee      none: the frontier has no point above the chord between its ends")
    yield Text(f"written   {sweep.folder}: the models, sweep.csv, sweep.json, sweep.png")


def _cells(sweep: Sweep, point: Point, batches: Sequence[int]) -> Iterator[str]:
    now, old, metric = point.cost, sweep.before, sweep.metric
    yield f"{point.keep:g}"
    for new, whole in ((now.macs if now else None, old.macs), (now.params if now else None, old.params)):
        yield f"{new / whole:.3f}" if new is not None and whole else "-"
    yield f"{now.bytes:,}" if now else "-"
    if metric is not None:
        yield quality_text(metric, point.quality(metric))
    taken = {latency.batch: milliseconds(latency.after_ms) for latency in point.latency}
    yield from (taken.get(batch, "-") for batch in batches)
    yield point.fidelity.verdict if point.fidelity else "-"


def _title(sweep: Sweep, metric: Metric) -> str:
    found = sweep.measured
    return shortened(found.name, MAX_NAME_WIDTH) if metric == "metric" and found else TITLES[metric]


def quality_text(metric: Metric, value: float | None) -> str:
    """A quality, formatted."""
    if value is None:
        return "-"
    if metric == "metric":
        return f"{value:.5g}"
    return f"{value:.3g}" if metric == "nsr" else f"{value if metric == 'accuracy' else 100 * value:.2f}%"


def _remark(sweep: Sweep, point: Point) -> str:
    if point is sweep.knee:
        return KNEE
    return "" if point.reason is None else f"{point.status}: {point.reason}"
