"""Format a sweep as text: a row for each share, and the knee."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from rich.console import RenderableType
from rich.text import Text

from onnx_merge.html.number_text import milliseconds
from onnx_merge.report.console import UNCUT_WIDTH, printed, screen_width
from onnx_merge.report.table import GAP, left_out_line, needed_width, plain_table, shortened
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
    batches = sorted(timed)
    names = {batch: "latency" if len(timed) == 1 else f"batch {batch}" for batch in batches}
    columns, left_out = list(_columns(sweep, timed, names, batches)), list[str]()
    remarks = [_remark(sweep, point) for point in sweep.points]
    short = [
        remark and (KNEE if point is sweep.knee else point.status)
        for point, remark in zip(sweep.points, remarks, strict=True)
    ]
    while len(batches) > 1 and needed_width([*columns, ["", *short]]) > width:
        left_out.insert(0, names[batches.pop()])
        columns = list(_columns(sweep, timed, names, batches))
    room = max(width - needed_width(columns) - GAP, *map(len, short), 0)
    table, below = plain_table(), list[str]()  # reasons that do not fit beside their row
    for title, *_ in columns:
        table.add_column(title, justify="left" if title == "verdict" else "right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="crop")
    original, *rows = zip(*(cells for _, *cells in columns), strict=True)
    table.add_row(*original, "")
    for point, row, remark, word in zip(sweep.points, rows, remarks, short, strict=True):
        style = "bold" if point is sweep.knee else "dim" if point.status != "done" else ""
        if len(remark) > room:
            below.append(shortened(f"keep {point.keep:g}  {remark}", width))
        table.add_row(*row, remark if len(remark) <= room else word, style=style)
    yield table
    if left_out:
        yield left_out_line(left_out)
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


def _columns(
    sweep: Sweep, timed: Mapping[int, float], names: Mapping[int, str], batches: Sequence[int]
) -> Iterator[list[str]]:
    """Each column: its title, the original's cell, and one for each point. ``timed``: milliseconds of the original."""
    points, old, metric = sweep.points, sweep.before, sweep.metric
    yield ["keep", "original", *(f"{point.keep:g}" for point in points)]
    for title, key in (("MACs", "macs"), ("params", "params")):
        whole = getattr(old, key)
        new = [getattr(point.cost, key) if point.cost else None for point in points]
        yield [title, "1.000", *(f"{n / whole:.3f}" if n is not None and whole else "-" for n in new)]
    yield ["bytes", f"{old.bytes:,}", *(f"{point.cost.bytes:,}" if point.cost else "-" for point in points)]
    if metric is not None:
        values = [sweep.original(metric), *(point.quality(metric) for point in points)]
        yield [_title(sweep, metric), *(quality_text(metric, value) for value in values)]
    for batch in batches:
        taken = [next((one.after_ms for one in point.latency if one.batch == batch), None) for point in points]
        yield [names[batch], *("-" if one is None else milliseconds(one) for one in (timed[batch], *taken))]
    yield ["verdict", "", *(point.fidelity.verdict if point.fidelity else "-" for point in points)]


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
