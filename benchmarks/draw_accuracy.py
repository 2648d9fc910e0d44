"""Draws accuracy over latency, or over multiply-adds where latency was not measured, a line for each method.

    python benchmarks/draw_accuracy.py RESULTS.json [OUT.png]

Without OUT.png it prints the same as a table in Markdown, for docs/comparison.md. RESULTS.json is what
`benchmarks/accuracy.py --json` wrote; benchmarks/results/ holds those of the pictures in docs/. Needs matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LABELS = {
    "prune": "pruned by l1 norm",
    "merge": "Neuron Merging",
    "merge reprune": "Neuron Merging + REPrune",
    "ridge Z": "GRAIL's step",
    "uniform synthetic": "ours, uniform, no data",
    "auto synthetic": "ours, no data",
    "uniform real": "ours, uniform, samples",
    "auto real": "ours, samples",
    "onnxsim": "onnxsim",
    "onnxsim + tune": "onnxsim, tuned",
}
"""Method -> what the legend calls it."""
COLOURS = {"auto real": "#0b6e4f", "auto synthetic": "#3a9d78"}
OTHERS = ("#b5546b", "#c28a2b", "#7a6fb0", "#5b86ad", "#9a7b5f", "#8c8c8c", "#a3a847", "#c06fae")


def draw(before: float, rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Draw ``rows``, whose keys are the fields of `accuracy.Row`. ``before``: accuracy of the original in percent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = all(row["latency"] is not None for row in rows)
    across = "latency" if timed else "macs"
    figure, axes = pyplot.subplots(figsize=(8.4, 4.0), layout="constrained")
    others = iter(OTHERS * len(rows))
    for name in dict.fromkeys(row["method"] for row in rows):
        of_method = sorted((row for row in rows if row["method"] == name), key=lambda row: row["keep"])
        points = dict.fromkeys((100 * row[across], row["accuracy"]) for row in of_method)
        ours = "auto" in name
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=5 if ours else 4,
            label=LABELS.get(name, name),
            lw=2.2 if ours else 1.1,
            color=COLOURS.get(name) or next(others),
            zorder=3 if ours else 2,
        )
    axes.plot([100], [before], marker="*", markersize=11, color="black", ls="", label="original", zorder=4)
    axes.axhline(before, color="grey", lw=0.8, ls=":")
    axes.set_xlabel("latency, % of the original's" if timed else "multiply-adds, % of the original's")
    axes.set_ylabel("top-1 accuracy, %")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside right center")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=140, metadata={"Software": ""})


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each method, a column for each share kept: accuracy, and the latency left in brackets."""
    keeps = sorted({row["keep"] for row in rows}, reverse=True)
    found = {(row["method"], row["keep"]): row for row in rows}
    lines = [f"| | {' | '.join(f'`--keep {keep:g}`' for keep in keeps)} |", f"|---|{'---:|' * len(keeps)}"]
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = (found[name, keep] for keep in keeps)
        texts = (f"{row['accuracy']:.1f} ({row['latency']:.2f})" for row in cells)
        lines.append(f"| {LABELS.get(name, name)} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Draw the file that the first argument names, or print its table."""
    if len(sys.argv) not in (2, 3):
        print(__doc__)
        return 2
    results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if len(sys.argv) == 2:
        print(table(results["rows"]), end="")
    else:
        draw(results["before"], results["rows"], Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
