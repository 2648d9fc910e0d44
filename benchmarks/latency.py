"""Speed-up of models: share of the multiply-adds left against share of the latency left.

    python benchmarks/latency.py FOLDER_OR_FILES... [--targets 0.7,0.5] [--keeps 0.6] [--only REGEX] [--method prune]
                                 [--calib none] [--threads N] [--batch 1] [--seconds 10] [--provider auto]
                                 [--json OUT.json]

Each model is shrunk to each share of its multiply-adds (`--targets`) or of every group's channels (`--keeps`), once
with widths aligned to the blocks of the provider's kernels and once with any widths (``align`` "auto" and 1). The
original and both results run in turns in one process (`onnx_merge.latency.measure`). The default method needs no
samples: latency does not depend on the values of the weights, so models may have random ones.

MACs      multiply-adds left, as `passes.cost.cost` counts them, after / before; of the aligned result.
ms        median latency of the original.
aligned   latency left, after / before, as `onnx_merge.latency.measure.Timed.ratio`; with 90th percentiles in the JSON.
any       the same of the result whose widths are not aligned.
openvino  the same of the aligned result in OpenVINO on the CPU, after / before there; "-" where openvino is not
          installed, or does not run the model.
conv      share of the original's multiply-adds in Conv nodes; from a half on, the model counts as a CNN.

Below stand, for each share, the medians over all models and over CNNs, the worst model, and how many are slower than
their original. A model that cannot be shrunk to a share, or run, has a line that says why and counts nowhere.

Exit code 0 if every model could be measured, else 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from openvino_latency import INSTALLED, openvino_ratios

from onnx_merge.compression.optimize import optimize
from onnx_merge.errors import OnnxMergeError, one_line
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.load import load_model
from onnx_merge.latency.measure import Latencies, compare_latency
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import TIMING
from passes.cost.cost import node_macs
from passes.graph.model import Graph
from passes.transforms.canonicalize import canonicalize

CNN_SHARE = 0.5
ALIGNMENTS: dict[str, str | int] = {"aligned": "auto", "any": 1}
"""Column -> value of the option."""


@dataclass
class Row:
    """One model at one share; ``failure``: why there is no more to say of it. Shares are after / before."""

    model: str
    amount: str
    conv: float | None = None
    macs: dict[str, float] | None = None
    """By column, as ``latency``."""
    latency: dict[str, float] | None = None
    ms: float | None = None
    p90_ms: dict[str, float] | None = None
    """Of the original too, under ``before``."""
    openvino: float | None = None
    threads: int | None = None
    runs: int = 0
    failure: str | None = None

    @property
    def cnn(self) -> bool:
        return self.conv is not None and self.conv >= CNN_SHARE


def conv_share(model: onnx.ModelProto) -> float:
    """Share of the multiply-adds in Conv nodes."""
    graph = Graph(canonicalize(model, FOLDING), (), RunObserver())
    macs = [(node.op, node_macs(graph, node)) for node in graph.nodes]
    return sum(count for op, count in macs if op == "Conv") / max(sum(count for _, count in macs), 1)


def measure(path: Path, amount: dict[str, float], args: argparse.Namespace, provider: ProviderChoice) -> Row:
    """One row."""
    name, share = next(iter(amount.items()))
    row = Row(path.stem, f"{name} {share:g}")
    try:
        original = load_model(path).model
        row.conv = conv_share(original)
        shrunk, macs = {}, {}
        for column, align in ALIGNMENTS.items():
            options = {**amount, "align": align, "method": args.method, "calib": args.calib, "provider": args.provider}
            options["check_n"] = 1
            shrunk[column], result = optimize(original, **{k: v for k, v in options.items() if v is not None})
            macs[column] = result.after.macs / max(result.before.macs, 1)
        timed = _time([original, *shrunk.values()], args, provider)
        row.openvino = _openvino([original, shrunk["aligned"]], args)
    except Exception as error:  # the other models go on
        said = str(error) if isinstance(error, OnnxMergeError) else f"{type(error).__name__}: {error}"
        return replace(row, failure=one_line(said))
    before, *after = timed.models
    row.macs, row.ms, row.threads, row.runs = macs, before.median_ms, timed.threads, timed.runs
    row.latency = {column: model.ratio for column, model in zip(shrunk, after, strict=True)}
    row.p90_ms = {column: m.p90_ms for column, m in zip(("before", *shrunk), timed.models, strict=True)}
    return row


def _time(models: Sequence[onnx.ModelProto], args: argparse.Namespace, provider: ProviderChoice) -> Latencies:
    inputs = Session(models[0], provider).inputs
    feeds = random_feeds(inputs, args.batch, upper=index_bounds(models[0]))
    return compare_latency(models, feeds, provider, args.threads, seconds=args.seconds)


def _openvino(models: Sequence[onnx.ModelProto], args: argparse.Namespace) -> float | None:
    if not INSTALLED:
        return None
    feeds = random_feeds(Session(models[0]).inputs, args.batch, upper=index_bounds(models[0]))
    try:
        return openvino_ratios(models, feeds, args.threads, args.seconds)[1]
    except RuntimeError:
        return None


def columns(row: Row) -> str:
    """A row after the model's name."""
    if row.failure is not None:
        return f"{row.amount:16} FAILED: {row.failure}"
    macs, latency = row.macs or {}, row.latency or {}
    cells = [_cell(macs.get("aligned", macs.get("any"))), f"{row.ms:9.2f}" if row.ms is not None else f"{'-':>9}"]
    cells += [_cell(latency.get(column)) for column in ("aligned", "any")]
    return f"{row.amount:16} {' '.join(cells)}  {_cell(row.openvino)} {_cell(row.conv)}"


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.3f}':>7}"


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Medians, the worst, and how many got slower: by share and column."""
    figures: dict[str, Any] = {}
    for amount in dict.fromkeys(row.amount for row in rows):
        inside = [row.openvino for row in rows if row.amount == amount and row.openvino is not None]
        figures[amount] = {"failed": sum(row.amount == amount and row.failure is not None for row in rows)}
        figures[amount]["openvino"] = statistics.median(inside) if inside else None
        for column in ALIGNMENTS:
            found = [(row.latency[column], row) for row in rows if row.amount == amount and row.latency]
            if not found:
                continue
            worst, worst_row = max(found, key=lambda pair: pair[0])
            cnns = [ratio for ratio, row in found if row.cnn]
            figures[amount][column] = {
                "models": len(found),
                "cnns": len(cnns),
                "macs": statistics.median(row.macs[column] for _, row in found if row.macs),
                "latency": statistics.median(ratio for ratio, _ in found),
                "latency_cnns": statistics.median(cnns) if cnns else None,
                "worst": worst,
                "worst_model": worst_row.model,
                "slower": sum(ratio > 1 for ratio, _ in found),
            }
    return figures


def report(figures: dict[str, Any]) -> str:
    """The lines at the end."""
    lines = []
    for amount, by_column in figures.items():
        for column in ALIGNMENTS:
            if column in by_column:
                f = by_column[column]
                lines.append(
                    f"{amount}, {column} widths: median MACs {f['macs']:.3f}, latency {f['latency']:.3f} over "
                    f"{f['models']} models,{_cell(f['latency_cnns'])} over {f['cnns']} CNNs; worst {f['worst']:.3f} "
                    f"({f['worst_model']}); {f['slower']} slower than the original"
                )
        if by_column["openvino"] is not None:
            lines.append(f"{amount}, aligned widths in OpenVINO: median latency {by_column['openvino']:.3f}")
        if by_column["failed"]:
            lines.append(f"{amount}: {by_column['failed']} failed")
    return "\n".join(lines)


def _shares(text: str) -> list[float]:
    return [float(share) for share in text.split(",")]


def main() -> int:
    """Print the rows and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER_OR_FILES")
    parser.add_argument("--targets", type=_shares, default=[], metavar="R,R", help="shares of the MACs")
    parser.add_argument("--keeps", "--keep", type=_shares, default=[], metavar="R,R", help="shares of the channels")
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--method", default="prune")
    parser.add_argument("--calib", default="none")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=TIMING.seconds, help="for the runs of one row")
    parser.add_argument("--provider", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    amounts = [{"target_macs": r} for r in args.targets] + [{"keep": r} for r in args.keeps]
    if not amounts:
        parser.error("give --targets or --keeps")
    files = [file for path in args.models for file in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    files = [file for file in files if re.search(args.only, file.stem)]
    if not files:
        parser.error("no model matches")
    provider = available_provider(args.provider)
    width = max(len("model"), *(len(file.stem) for file in files))
    print(f"{'model':{width}} {'share':16} {'MACs':>7} {'ms':>9} {'aligned':>7} {'any':>7} {'openvino':>8} {'conv':>7}")
    rows: list[Row] = []
    for path in files:
        for amount in amounts:
            print(f"{path.stem:{width}} ", end="", flush=True)
            rows.append(measure(path, amount, args, provider))
            print(columns(rows[-1]), flush=True)
            gc.collect()  # graphs refer to themselves; the next model wants the memory
    figures = summary(rows)
    print(report(figures))
    threads = sorted({"onnxruntime's choice" if r.threads is None else f"{r.threads}" for r in rows if r.latency})
    print(f"on {provider.name}, batch {args.batch}, threads {', '.join(threads) or '-'}")
    if args.json is not None:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "models"}
        models = [{**asdict(row), "cnn": row.cnn} for row in rows]
        table = {"settings": settings, "provider": provider.name, "summary": figures, "models": models}
        args.json.write_text(json.dumps(table, indent=2, allow_nan=False) + "\n")
    return 1 if any(row.failure for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
