"""Leaderboard of compression without fine-tuning: trained models that anybody can install, at equal multiply-adds.

    python benchmarks/leaderboard_models.py CACHE
    python benchmarks/leaderboard.py CACHE RESULTS.jsonl [--tasks REGEX] [--methods REGEX] [--timeout SECONDS]
    python benchmarks/leaderboard.py CACHE benchmarks/results/leaderboard.jsonl --page docs

The first line of RESULTS.jsonl holds the versions and the machine, each other one a result. Those that are there are
not measured again, so a run that was stopped goes on, and a row is measured anew after its line was deleted. Made
models are kept in CACHE/made. `--tasks digits` needs no CACHE: its models ship with the package.

All leave the multiply-adds that are left when every group keeps 0.8 of its channels.

prune           l1 criterion, every group keeping the same share
merge           Neuron Merging, by weights, every group keeping the same share
reprune         the same, kept channels being REPrune's representatives
ridge           GRAIL's step on the samples: ridge regression from the kept to all channels, with the widths of prune
onnxsim         simplify, then apply_structured_wanda_pruning on the samples
onnxsim-tuned   and apply_pruning_finetune on the samples
onnxsim-distilled  and apply_block_finetune_all_blocks on the samples
ours-no-data    the default on made-up samples
ours            the default on the samples
int8, ...       onnxruntime's static and dynamic quantisation, and float16, of the original and of `ours`

Samples are 256 (fewer where a task says so), none of which is judged on. A row that fails says why. Needs the
packages of the extra `bench`, Pillow, and onnxsim for its three rows. With `--page` nothing is measured: the tables of
docs/leaderboard.md and docs/number-formats.md and the plot are made from the results.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from board.file_types import FileTypes
from board.images import Detector, EfficientNet
from board.measure import as_line, measured
from board.methods import METHODS
from board.page import Row, between, draw, formats_table, tables
from board.sentences import Sentences
from board.tasks import Digits, Task
from board.text_lines import TextLines

from onnx_merge.report.environment import environment

TASKS: dict[str, Callable[[Path], Task]] = {
    "digits_mlp": functools.partial(Digits, name="digits_mlp", kind="small MLP"),
    "digits_cnn": functools.partial(Digits, name="digits_cnn", kind="small CNN"),
    "magika": FileTypes,
    "minilm": Sentences,
    "text_recogniser": TextLines,
    "efficientnet_lite0": EfficientNet,
    "nudenet": Detector,
}
"""Name -> makes the task, given the folder with models and data."""


def versions() -> dict[str, str]:
    """Of the software, and the machine."""
    peers = ("onnxsim", "onnxconverter-common", "pillow")
    found = {name: importlib.metadata.version(name) for name in peers if _installed(name)}
    return {**environment(), **found}


def _installed(name: str) -> bool:
    return importlib.util.find_spec({"pillow": "PIL"}.get(name, name.replace("-", "_"))) is not None


def write_pages(rows: Sequence[Row], docs: Path) -> None:
    """Write the tables and the plot into the folder of the pages."""
    tasks = {name: task(Path()) for name, task in TASKS.items()}
    for page, made in (("leaderboard.md", tables(rows, tasks)), ("number-formats.md", formats_table(rows, tasks))):
        text = (docs / page).read_text(encoding="utf-8")
        (docs / page).write_text(between(text, made), encoding="utf-8")
    draw(rows, tasks, docs / "leaderboard.png")


def _lines(path: Path) -> list[Row]:
    """The rows of a file of results."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "task" in line]


def main(words: list[str] | None = None) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--tasks", default="", metavar="REGEX")
    parser.add_argument("--methods", default="", metavar="REGEX")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for a row")
    parser.add_argument("--page", type=Path, metavar="DOCS", help="write the pages in this folder, and measure nothing")
    args = parser.parse_args(words)
    if args.page is not None:
        write_pages(_lines(args.results), args.page)
        return 0
    if not args.results.exists():
        args.results.write_text(json.dumps({"environment": versions()}) + "\n", encoding="utf-8")
    known = {(line["task"], line["method"]) for line in _lines(args.results)}
    for name, task in TASKS.items():
        for method in METHODS:
            wanted = re.search(args.tasks, name) and re.search(args.methods, method)
            if not wanted or (name, method) in known:
                continue
            folder = args.cache / "made" / name
            found = measured(name, functools.partial(task, args.cache), method, folder, args.timeout)
            with args.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(as_line(found)) + "\n")
            print(json.dumps(as_line(found)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
