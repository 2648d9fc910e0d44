"""Formats a run's result as text: cost before and after, closeness of the outputs, and every channel group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnx_merge.evaluation.verdict import Fidelity, Word
from onnx_merge.html.headline import promised_loss
from onnx_merge.html.number_text import milliseconds
from onnx_merge.report.console import UNCUT_WIDTH, printed, screen_width
from onnx_merge.report.group_result import GroupResult
from onnx_merge.report.quality_text import outputs_text
from passes.interface.reason import text
from passes.settings.blocks import Blocks

if TYPE_CHECKING:  # `inspect`, whose tables look alike, should not wait for statistics
    from onnx_merge.report.result import AllocationResult, FormatResult, Result

GAP = 3
CHOSEN = {"lossless": "what costs nothing goes", "max-drop": "what loses more stays"}
"""What the option does that is chosen if no option says how much to remove."""
STYLES = {"shrunk": "", "kept": "dim", "frozen": "dim", "excluded": "yellow"}
VERDICTS: dict[Word, str] = {"good": "bold green", "bad": "bold red", "untested": "bold yellow"}


def render(result: Result, stream: TextIO, verbose: bool = False) -> str:
    """Render the tables for ``stream``; see `onnx_merge.report.console.printed`."""
    return printed(_parts(result, screen_width(stream), verbose), stream, verbose)


def _parts(result: Result, width: int, verbose: bool) -> Iterator[RenderableType]:
    for note in result.notes:
        yield Text(f"note: {note}", style="yellow")
    if verbose:
        yield from (Text(f"note: {name} is not folded: {why}", style="yellow") for name, why in result.unfolded.items())
    elif result.unfolded:
        yield Text(f"note: {len(result.unfolded)} BatchNormalization not folded; -v says why", style="yellow")
    if result.output.path is None:
        yield Text("note: no model was written", style="yellow")
    yield _costs(result, verbose)
    yield from _quality(result)
    if result.formats:
        yield Text()
        yield from formats_table(result.formats, UNCUT_WIDTH if verbose else width)
    if result.groups:
        yield Text()
        yield from _groups(result.groups, width, verbose)
    yield Text()
    yield verdict_line(result.fidelity, UNCUT_WIDTH if verbose else width)


def plain_table() -> Table:
    """Return an empty table whose only rule is the one below the header."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")


def _costs(result: Result, verbose: bool) -> Table:
    before, after = result.before, result.after
    rows = [
        ("parameters", before.params, after.params),
        ("MACs", before.macs, after.macs),
        ("bytes", before.bytes, after.bytes),
        ("nodes", before.nodes, after.nodes),
    ]
    if verbose:
        types = dict.fromkeys((*before.ops, *after.ops))
        rows += [(f"  {op}", before.ops.get(op, 0), after.ops.get(op, 0)) for op in types]
    table = plain_table()
    table.add_column("")
    for title in ("before", "after", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for label, old, new in rows:
        table.add_row(label, f"{old:,}", f"{new:,}", f"{new / old:.3f}" if old else "-")
    for latency in result.latency:
        label, old_ms, new_ms = f"latency (batch {latency.batch})", latency.before_ms, latency.after_ms
        table.add_row(label, milliseconds(old_ms), milliseconds(new_ms), f"{latency.ratio:.3f}")
        table.add_row("  90th percentile", milliseconds(latency.before_p90_ms), milliseconds(latency.after_p90_ms), "")
    return table


def formats_table(formats: tuple[FormatResult, ...], width: int) -> Iterator[RenderableType]:
    """Yield the table of compression and conversion alone and together. Latencies that do not fit are left out, the
    largest batch first, and a line says so."""
    table, names = plain_table(), [one.name for one in formats]
    table.add_column("model", no_wrap=True)
    columns: list[tuple[str, list[str]]] = [("bytes", [f"{one.bytes:,}" for one in formats])]
    first = formats[0]
    for batch in first.latency_ms:
        label = "latency" if len(first.latency_ms) == 1 else f"batch {batch}"
        columns.append((label, [milliseconds(one.latency_ms[batch]) for one in formats]))
    if any(one.accuracy is not None for one in formats):
        columns.append(("accuracy", ["-" if one.accuracy is None else f"{one.accuracy:.2f}%" for one in formats]))
    if any(one.changed is not None for one in formats):
        columns.append(("changed", ["-" if one.changed is None else f"{100 * one.changed:.1f}%" for one in formats]))
    columns.append(("noise", ["-" if one.nsr is None else f"{one.nsr:.3g}" for one in formats]))
    left_out: list[str] = []
    batches = [title for title, _ in columns if title.startswith("batch ")]
    while batches and needed_width([names, *([title, *cells] for title, cells in columns)]) > width:
        left_out.insert(0, batches.pop())
        columns = [column for column in columns if column[0] != left_out[0]]
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for k, one in enumerate(formats):
        table.add_row(one.name, *(cells[k] for _, cells in columns))
    yield table
    if left_out:
        yield left_out_line(left_out)


def left_out_line(titles: Sequence[str]) -> Text:
    """Return the line that names the columns that do not fit."""
    return Text(f"(shortened to fit, without {' and '.join(titles)}; -v shows all)", style="dim")


def needed_width(columns: Iterable[Sequence[str]]) -> int:
    """Return the width of a table with these columns, each its title and its cells."""
    columns = list(columns)
    return sum(max(map(len, column)) for column in columns) + GAP * (len(columns) - 1)


def _quality(result: Result) -> Iterator[Text]:
    yield Text()
    if result.latency:
        first, runs = result.latency[0], {latency.runs for latency in result.latency}
        count = f"{min(runs)} to {max(runs)}" if len(runs) > 1 else f"{first.runs}"
        threads = "onnxruntime's choice of threads" if first.threads is None else f"threads: {first.threads}"
        yield Text(f"latency   median of {count} runs of each model, in turns ({first.provider}, {threads})")
    if result.accuracy:
        accuracy = result.accuracy
        drop = accuracy.after - accuracy.before
        yield Text(
            f"accuracy  {accuracy.before:.2f}% -> {accuracy.after:.2f}% ({drop:+.2f}) on {accuracy.samples:,} samples",
            style="bold",
        )
    if result.metric:
        found = result.metric
        values = f"{found.before:.5g} -> {found.after:.5g}"
        if math.isfinite(found.after - found.before):
            values += f" ({found.after - found.before:+.3g})"
        yield Text(f"metric    {found.name} {values} on {found.samples:,} samples", style="bold")
    if result.promise:
        promise = result.promise
        lost = promised_loss(promise.max_drop, promise.measure)
        where = f"on samples like the {promise.samples:,} held out"
        yield Text(f"promise   loses at most {lost} with confidence {promise.confidence:g} {where}", style="bold")
    if result.chosen:
        yield Text(f"amount    --{result.chosen}, since none was given: {CHOSEN[result.chosen.partition(' ')[0]]}")
    if result.allocation is not None and result.allocation.block > 1:
        yield Text(_alignment(result.allocation, result.groups))
    if "plugins" in result.environment:
        yield Text(f"plug-ins  {result.environment['plugins']}")
    if result.ware is not None:
        yield Text(f"layers    {100 * result.ware:.3g}% of the variance of their outputs lost, on average")
    if result.fidelity:
        yield Text(outputs_text(result.fidelity))
    untested = [o for o in result.fidelity.varying if not o.tested] if result.fidelity else []
    for doubt in (*result.doubts, *(f"they do not test the output {o.name}: {o.reason}" for o in untested)):
        yield Text(f"samples   {doubt}", style="yellow")


def verdict_line(close: Fidelity | None, width: int) -> Text:
    """Return the last line of a run's table, at most as long as one line of the screen."""
    word, why = (close.verdict, close.why) if close else ("untested", "unverified: the outputs were not compared")
    start = "verdict   "
    return Text.assemble(start, (word, VERDICTS[word]), shortened(f": {why}", max(8, width - len(start) - len(word))))


def _alignment(found: AllocationResult, groups: tuple[GroupResult, ...]) -> str:
    sizes = (group.size for group in groups if group.status in ("shrunk", "kept"))
    text = f"widths    {Blocks(found.block, found.strict).said_of(sizes)}: {found.reason}"
    if found.predicted_loss is not None and found.unaligned_loss:
        text += f"; predicted to lose {found.predicted_loss / found.unaligned_loss:.2f} times what any widths would"
    return text


def _groups(groups: tuple[GroupResult, ...], width: int, verbose: bool) -> Iterator[RenderableType]:
    """Yield one line per group. Names and reasons are shortened to fit, unless ``verbose``."""
    digits = len(f"{max(group.size for group in groups)}")
    channels = [f"{group.size:>{digits}} -> {group.kept:>{digits}}" for group in groups]
    methods = ["-" if group.method == "none" else group.method for group in groups]
    texts = [(group.name, text(group.reason) or "") for group in groups]
    shown = texts
    if not verbose:
        taken = max(len("channels"), len(channels[0])) + max(len("method"), *map(len, methods)) + 3 * GAP
        shown = shortened_pairs(texts, width - taken)
    table = plain_table()
    table.add_column("group", no_wrap=True, overflow="crop")
    table.add_column("channels", justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("reason" if any(reason for _, reason in shown) else "", no_wrap=True, overflow="crop")
    for group, (name, reason), count, method in zip(groups, shown, channels, methods, strict=True):
        table.add_row(name, count, method, reason, style=STYLES[group.status])
    yield table
    if shown != texts:
        yield Text("(shortened to fit; -v shows all)", style="dim")


def shortened_pairs(texts: list[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """Shorten pairs of name and reason so that both columns together are at most ``width`` wide.

    First, folders that exporters repeat are removed: ``/features/features.5/block/block.0/Conv`` becomes
    ``/features.5/block.0/Conv``. If that is not enough, the middle of the text is cut.
    """
    longest_name, longest_reason = (max(map(len, column)) for column in zip(*texts, strict=True))
    if longest_name + longest_reason <= width:
        return texts
    texts = [(without_repeats(name), without_repeats(reason)) for name, reason in texts]
    longest_name, longest_reason = (max(map(len, column)) for column in zip(*texts, strict=True))
    name_width = min(longest_name, max(width - longest_reason, 3 * width // 5, len("group")))
    reason_width = max(width - name_width, len("reason"))
    return [(shortened(name, name_width), shortened(reason, reason_width)) for name, reason in texts]


def shortened(text: str, width: int) -> str:
    """Return ``text`` cut in the middle to at most ``width`` characters."""
    if len(text) <= width:
        return text
    head = (width - 2) * 2 // 3
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def without_repeats(text: str) -> str:
    """Return ``text`` without the folders of a name whose text the next folder repeats."""
    words = []
    for word in text.split(" "):
        parts = word.split("/")
        kept = [part for part, child in zip(parts, parts[1:], strict=False) if not child.startswith(f"{part}.")]
        words.append("/".join([*kept, parts[-1]]))
    return " ".join(words)
