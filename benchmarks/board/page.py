"""The tables and the plot of the leaderboard, from its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
"""A line of the results, as `measure.as_line` makes it."""
LABELS = {
    "original": "original",
    "prune": "pruned by l1 norm",
    "merge": "Neuron Merging",
    "reprune": "Neuron Merging + REPrune",
    "ridge": "GRAIL's step",
    "onnxsim": "onnxsim, Wanda",
    "onnxsim-tuned": "onnxsim, Wanda, tuned",
    "onnxsim-distilled": "onnxsim, Wanda, tuned, distilled",
    "ours-no-data": "ours, no data",
    "ours": "ours, samples",
    "int8": "INT8",
    "int8-dynamic": "INT8, dynamic",
    "fp16": "float16",
    "ours-int8": "ours + INT8",
    "ours-int8-dynamic": "ours + INT8, dynamic",
    "ours-fp16": "ours + float16",
}
"""Method -> what the tables call it, in their order."""
FORMATS = ("original", "ours", "int8", "ours-int8", "int8-dynamic", "ours-int8-dynamic", "fp16", "ours-fp16")
"""Methods of the table of number formats."""
MARKED = {"ours": "#0b6e4f", "ours-no-data": "#3a9d78", "int8": "#b5546b", "ours-int8": "#c28a2b"}
"""Methods that stand out in the plot."""
OTHERS = ("#7a6fb0", "#5b86ad", "#9a7b5f", "#8c8c8c", "#a3a847", "#c06fae")
PLOTTED = tuple(name for name in LABELS if "fp16" not in name and name != "original")
START, END = "<!-- results -->\n", "<!-- end of results -->"


def tables(rows: Sequence[Row], tasks: Mapping[str, Any]) -> str:
    """A section with a table for each task. ``tasks``: name -> `tasks.Task`."""
    return "\n".join(line for name, task in tasks.items() for line in _section(_of_task(rows, name), task)) + "\n"


def formats_table(rows: Sequence[Row], tasks: Mapping[str, Any]) -> str:
    """A row for each task, a column for each number format: latency left and agreement with the original."""
    heads = [LABELS[name] for name in FORMATS[1:]]
    lines = [f"| model | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for name, task in tasks.items():
        found = _of_task(rows, name)
        if found:
            lines.append(f"| {task.kind}: {task.title} | {' | '.join(_left(found.get(m)) for m in FORMATS[1:])} |")
    return "\n".join(lines) + "\n"


def between(text: str, inside: str) -> str:
    """``text`` with ``inside`` in place of what stands between the markers."""
    head, _, rest = text.partition(START)
    return head + START + inside + END + rest.partition(END)[2]


def draw(rows: Sequence[Row], tasks: Mapping[str, Any], target: Path) -> None:
    """Agreement with the original over latency, a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in tasks if _of_task(rows, name)]
    across = min(len(shown), 3)
    down = -(-(len(shown) + 1) // across)
    figure, grid = pyplot.subplots(
        down, across, figsize=(3.6 * across, 2.9 * down), layout="constrained", squeeze=False
    )
    others = iter(OTHERS * len(PLOTTED))
    colours = {name: MARKED.get(name) or next(others) for name in PLOTTED}
    handles = {}
    for axes, name in zip(grid.flat, shown, strict=False):
        found = _of_task(rows, name)
        for method in PLOTTED:
            row = found.get(method)
            if row and "failure" not in row:
                marker = "s" if "int8" in method else "o"
                handles[LABELS[method]] = axes.plot(
                    [100 * row["latency"]], [row["agreement"]], marker, color=colours[method], markersize=7
                )[0]
        handles["original"] = axes.plot([100], [100], "*", color="black", markersize=11)[0]
        axes.set_title(tasks[name].title.replace("`", ""), fontsize=10)
        axes.set_xlabel("latency, % of the original's", fontsize=8)
        axes.set_ylabel("agreement, %", fontsize=8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    figure.legend(handles.values(), handles.keys(), frameon=False, fontsize=8, loc="lower right", ncols=1)
    figure.savefig(target, dpi=110, metadata={"Software": ""})


def _of_task(rows: Sequence[Row], name: str) -> dict[str, Row]:
    return {row["method"]: row for row in rows if row.get("task") == name}


def _section(found: Mapping[str, Row], task: Any) -> Iterator[str]:
    if not found:
        return
    before = found["original"]
    yield f"### {task.title}"
    yield ""
    yield f"{_capital(task.kind)}; {before['ms']:.3g} ms a sample. Judged on {task.data}."
    yield ""
    scored = before.get("measure") is not None
    measured = [task.measured, "agreement"] if scored else [task.measured]
    heads = [*measured, *(["KL"] if before.get("kl") is not None else []), "MACs", "latency", "kB"]
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    for method, label in LABELS.items():
        row = found.get(method)
        if row is not None:
            yield f"| {label} | {' | '.join(_cells(row, before, len(heads)))} |"
    yield ""


def _cells(row: Row, before: Row, count: int) -> Iterator[str]:
    if "failure" in row:
        yield f"{row['failure'].replace('|', '/')} |" + " |" * (count - 2)
        return
    if before.get("measure") is not None:
        yield f"{row['measure']:.1f}"
    yield f"{row['agreement']:.1f}"
    if before.get("kl") is not None:
        yield f"{row['kl']:.2g}"
    yield f"{row['macs']:.2f}"
    yield f"{row['latency']:.2f}"
    yield f"{row['bytes'] / 1000:,.0f}"


def _left(row: Row | None) -> str:
    return "-" if row is None or "failure" in row else f"{row['latency']:.2f} ({row['agreement']:.1f})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
