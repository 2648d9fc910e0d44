"""How often is a promise broken, what does it cost, and how accurate is the reported share of changed classes?

    python benchmarks/promise.py MODEL.onnx --labels TEST.npz --calib SAMPLES --folder FOLDER
                                 [--keeps 0.9 0.8] [--held 512 2048] [--splits 500] [--max-drop 1] [--confidence P]

TEST.npz holds the model's input under its name, ready to feed, and `labels`. Layers are fitted to the samples of
--calib, none of which may be in TEST.npz. Each size is compressed once (FOLDER/keep-0.90.onnx, with its report beside
it), and its predicted classes are saved (FOLDER/keep-0.90.npy). Files that exist are not made again.

First table, one line a size: the reported share of changed classes with its Clopper-Pearson interval at 0.95, and the
share on all of TEST.npz.

Second table, for accuracy and for agreement: random subsets of TEST.npz are held out repeatedly, and a size is chosen
on each: the smallest that is promised, and for comparison the smallest whose drop on the subset is small enough. A
choice is broken if it loses more on all of TEST.npz. --held is below the number of samples in TEST.npz.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from onnx_merge import optimize
from onnx_merge.evaluation.drop_bounds import AccuracyLoss, AgreementLoss, Loss, last_kept
from onnx_merge.evaluation.fidelity import top_classes
from onnx_merge.inputs.user_arrays import load_samples
from onnx_merge.io.model_source import load_source
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

Classes = NDArray[np.int64]
KEEPS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--keeps", type=float, nargs="+", default=list(KEEPS))
    parser.add_argument("--held", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--confidence", type=float, default=0.95)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    session = Session(load_source(given.model).model, CPU)
    samples = load_samples(given.labels, session.inputs)
    assert samples.labels is not None, "no labels"
    total = len(samples.labels)
    if max(given.held) >= total:
        sys.exit(f"--held {max(given.held)} is to be below the {total} samples of {given.labels}")
    keeps = sorted(given.keeps, reverse=True)
    before = _classes(given.folder / "original.npy", lambda: session, samples.feeds)
    after = [
        _classes(_compressed(given, keep).with_suffix(".npy"), _loader(_compressed(given, keep)), samples.feeds)
        for keep in keeps
    ]
    print("keep   reported                       all")
    for keep, classes in zip(keeps, after, strict=True):
        print(f"{keep:.2f}   {_reported(_compressed(given, keep).with_suffix('.json')):30s} {_share(classes, before)}")
    right = before == samples.labels
    still = [classes == samples.labels for classes in after]
    accuracy = [AccuracyLoss(_sum(right & ~s), _sum(s & ~right), len(right)) for s in still]
    agreement = [AgreementLoss(_sum(classes != before), len(before)) for classes in after]
    for measure, truth in (("accuracy", accuracy), ("agreement", agreement)):
        print(f"\n{measure}: lost on all, in points: {', '.join(f'{t.mean:.2f}' for t in truth)}")

        def losses(rows: Classes, measure: str = measure) -> list[Loss]:
            if measure == "accuracy":
                return [AccuracyLoss(_sum((right & ~s)[rows]), _sum((s & ~right)[rows]), len(rows)) for s in still]
            return [AgreementLoss(_sum((classes != before)[rows]), len(rows)) for classes in after]

        for held in given.held:
            _splits(given, held, keeps, truth, losses, len(before))


def _splits(
    given: Any,
    held: int,
    keeps: Sequence[float],
    truth: Sequence[Loss],
    losses: Callable[[Classes], list[Loss]],
    total: int,
) -> None:
    rng, limit = np.random.default_rng(0), given.max_drop
    chosen: dict[str, list[int | None]] = {"promised": [], "uncorrected": []}
    for _ in range(given.splits):
        found = losses(rng.choice(total, held, replace=False))
        chosen["promised"].append(last_kept(found, limit, 1 - given.confidence))
        chosen["uncorrected"].append(max((k for k, x in enumerate(found) if x.mean <= limit), default=None))
    for name, picks in chosen.items():
        broken = sum(k is not None and truth[k].mean > limit for k in picks) / len(picks)
        error = (broken * (1 - broken) / len(picks)) ** 0.5
        sizes = [keeps[k] for k in picks if k is not None]
        mean = f"{np.mean(sizes):.3f}" if sizes else "-"
        print(
            f"{held} held out, {name}: broken {100 * broken:.1f}% (+-{100 * error:.1f}), none "
            f"{100 * (1 - len(sizes) / len(picks)):.1f}%, keep {mean} on average"
        )


def _compressed(given: Any, keep: float) -> Path:
    path: Path = given.folder / f"keep-{keep:.2f}.onnx"
    if not path.exists():
        report = path.with_suffix(".json")
        optimize(given.model, path, keep=keep, calib=given.calib, report=report, force=True, gate=False)
    return path


def _loader(path: Path) -> Callable[[], Session]:
    return lambda: Session(load_source(path).model, CPU)


def _classes(path: Path, load: Callable[[], Session], feeds: dict[str, NDArray[Any]]) -> Classes:
    if not path.exists():
        found = top_classes(load(), feeds)
        assert found is not None, "no classes"
        np.save(path, found)
    classes: Classes = np.load(path)
    return classes


def _reported(path: Path) -> str:
    if not path.exists():
        return "-"
    close = json.loads(path.read_text())["fidelity"]
    count = close["samples"]
    changed = round((1 - close["top1_agreement"]) * count)
    low = 0.0 if not changed else beta.ppf(0.025, changed, count - changed + 1)
    high = 1.0 if changed == count else beta.ppf(0.975, changed + 1, count - changed)
    where = "in-sample" if close["in_sample"] else f"of {count}"
    return f"{100 * changed / count:.1f}% ({100 * low:.1f} to {100 * high:.1f}) {where}"


def _share(classes: Classes, before: Classes) -> str:
    return f"{100 * float(np.mean(classes != before)):.2f}%"


def _sum(values: NDArray[np.bool_]) -> int:
    return int(values.sum())


if __name__ == "__main__":
    main()
