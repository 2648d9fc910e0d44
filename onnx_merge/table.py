"""What a run came to, as text for people: before and after, how close the outputs are, and every channel group."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from onnx_merge.result import GroupResult, Result

FILE_WIDTH = 120
"""Columns, where the output is not a terminal: the same whoever runs it."""
NAME_WIDTH = 24
"""Columns that names of groups keep when reasons are long."""
GAP = 3
STYLES = {"shrunk": "", "kept": "dim", "frozen": "dim", "excluded": "yellow"}


def render(result: Result, stream: TextIO, verbose: bool = False) -> str:
    """The tables as ``stream`` can show them: as wide as the terminal; elsewhere `FILE_WIDTH` wide, without colours."""
    terminal = stream.isatty()
    encoding = stream.encoding or "utf-8"
    # Rendered to memory first, so that a broken pipe or a narrow encoding is met in one place only, by the caller.
    sink = io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace", newline="")
    width = shutil.get_terminal_size().columns if terminal else FILE_WIDTH
    console = Console(
        file=sink, force_terminal=terminal, no_color=None if terminal else True, width=width, markup=False,
        highlight=False, emoji=False, legacy_windows=False,
    )  # fmt: skip
    for part in _parts(result, console.width, verbose):
        console.print(part)
    sink.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in sink.read().splitlines())


def _parts(result: Result, width: int, verbose: bool) -> Iterator[RenderableType]:
    yield _costs(result, verbose)
    yield from _quality(result)
    for note in result.notes:
        yield Text(f"note: {note}", style="yellow")
    if result.unfolded and verbose:
        for name, reason in result.unfolded.items():
            yield Text(f"note: BatchNormalization {name} was not folded: {reason}", style="yellow")
    elif result.unfolded:
        yield Text(f"note: {len(result.unfolded)} BatchNormalization could not be folded; -v says why", style="yellow")
    if result.groups:
        yield Text()
        yield _groups(result.groups, width)


def _table() -> Table:
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
    table = _table()
    table.add_column("")
    for title in ("before", "after", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for label, old, new in rows:
        table.add_row(label, f"{old:,}", f"{new:,}", f"{new / old:.3f}" if old else "-")
    return table


def _quality(result: Result) -> Iterator[Text]:
    yield Text()
    if result.accuracy:
        accuracy = result.accuracy
        drop = accuracy.after - accuracy.before
        yield Text(
            f"accuracy  {accuracy.before:.2f}% -> {accuracy.after:.2f}% ({drop:+.2f}) on {accuracy.samples:,} samples",
            style="bold",
        )
    if result.fidelity:
        close = result.fidelity
        words = [f"cosine {_ratio(close.cosine)}", f"relative error {close.relative_l2:.3g}"]
        if close.top1_agreement is not None:
            words.append(f"same top class {100 * close.top1_agreement:.1f}%")
        which = "random samples" if close.source == "random" else f"samples of {close.source.partition(' ')[2]}"
        yield Text(f"outputs   {', '.join(words)} on {close.samples:,} {which} ({close.provider})")


def _ratio(value: float) -> str:
    """Digits enough to tell from 1 what is not 1."""
    return f"{value:.4f}" if value < 0.9999 else f"{value:.7f}"


def _groups(groups: tuple[GroupResult, ...], width: int) -> Table:
    digits = len(f"{max(group.size for group in groups)}")
    channels = [f"{group.size:>{digits}} -> {group.kept:>{digits}}" for group in groups]
    methods = ["-" if group.method == "none" else group.method for group in groups]
    taken = max(len("channels"), len(channels[0])) + max(len("method"), *map(len, methods)) + 3 * GAP
    longest_reason = max(len(group.reason or "") for group in groups)
    free = width - taken
    name_width = max(min(NAME_WIDTH, free // 2), free - longest_reason)
    name_width = max(len("group"), min(name_width, max(len(group.name) for group in groups)))
    table = _table()
    table.add_column("group", width=name_width, no_wrap=True, overflow="crop")
    table.add_column("channels", justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    if longest_reason:
        table.add_column("reason", overflow="fold")
    for group, count, method in zip(groups, channels, methods, strict=True):
        row = [shortened(group.name, name_width), count, method]
        table.add_row(*row, *([group.reason or ""] if longest_reason else []), style=STYLES[group.status])
    return table


def shortened(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters; its middle is left out, since the ends of names tell them apart."""
    if len(text) <= width:
        return text
    tail = (width - 2) * 2 // 3
    return f"{text[: width - 2 - tail]}..{text[len(text) - tail :]}"
