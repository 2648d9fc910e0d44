"""Correctness of results at every size of dynamic dimensions: batch, height, width and length.

    python benchmarks/dynamic_sizes.py FOLDER_OR_FILES... [--keep 0.5] [--only REGEX]

The first axis of every input is declared dynamic, and so are the two axes of an image and the length of a sequence,
where the model runs at other sizes of them than its own (an export that wrote a size into a Reshape does not). Every
channel group keeps ceil(keep x C) channels (method merge). One row a model:

sizes      at which the original, the result and the unshrunk twin were run: odd, unequal and small ones.
shrunk     channel groups that lost channels, of how many.
error      distance of the result from the twin (see `passes.surgery.apply_plan`): max|a - b| / max|b|, the largest over
           outputs and sizes.
verdict    exact: shapes as the original's, error at most 1e-4 (float32 rounds; or in float64, where it does not).

Exit code 0 if every model is exact, else 1.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from coverage_measure import EXACT
from exactness import float64_error, relative_error

from onnx_merge.errors import OnnxMergeError, one_line
from onnx_merge.inputs.assignments import find_assignments
from onnx_merge.inputs.feeds import feeds_at, index_bounds
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.load import load_model
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from passes.pipeline import compress
from passes.settings.compress import CompressSettings

RUNS = 3
"""Sizes at which a model is run."""
OPEN: Mapping[int, Mapping[int, str]] = {2: {0: "N", 1: "L"}, 4: {0: "N", 2: "H", 3: "W"}, 5: {0: "N", 3: "H", 4: "W"}}
"""Rank of an input -> names of the axes that are left open."""


def opened(model: onnx.ModelProto, axes: Mapping[int, Mapping[int, str]]) -> onnx.ModelProto:
    """A copy of ``model`` whose inputs declare these axes as dynamic, and whose outputs declare no sizes."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    constants = {t.name for t in result.graph.initializer}
    for value in result.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, name in axes.get(len(dims), {0: "N"}).items():
            if value.name not in constants and axis < len(dims):
                dims[axis].dim_param = name
    for value in result.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    return result


def judge(path: Path, keep: float) -> tuple[bool, str]:
    """Whether the result is right, and the row."""
    original = load_model(path).model
    for axes in (OPEN, {rank: {0: "N"} for rank in OPEN}):
        model = opened(original, axes)
        session = Session(model)
        found = find_assignments(session, model=model)
        if len({shape[2:] or shape[1:] for a in found.found for shape in a.values()}) > 1 or axes is not OPEN:
            break
    settings = CompressSettings(keep=keep, method="merge", assignments=found.witnesses)
    compressed = compress(model, settings, RunObserver(), engine=FOLDING)
    shrunk = f"{sum(plan.shrinks for plan in compressed.every_plan)}/{len(compressed.every_plan)}"
    if not compressed.shrinks:
        return True, f"{_sizes(found.found[:RUNS]):48} {shrunk:>9}"
    after, twin = Session(compressed.model), compressed.twin()
    twin_session = Session(twin)
    worst, wrong = 0.0, ""
    for assignment in found.found[:RUNS]:
        feeds = feeds_at(session.inputs, assignment, 0, index_bounds(model))
        wanted, target, actual = (s.run(feeds) for s in (session, twin_session, after))
        bad = [n for n, v in wanted.items() if v.shape != actual[n].shape or v.dtype != actual[n].dtype]
        wrong = wrong or (f"shape of {bad[0]} at {_sizes([assignment])}" if bad else "")
        error = relative_error(actual, target)
        if error is None or error > EXACT:
            error, _ = float64_error(compressed.model, twin, feeds)
        worst = max(worst, float("inf") if error is None else error)
    wrong = wrong or ("" if worst <= EXACT else "differs from the twin")
    return not wrong, f"{_sizes(found.found[:RUNS]):48} {shrunk:>9} {worst:9.1e}  {wrong or 'exact'}"


def _sizes(assignments: Sequence[Mapping[str, tuple[int, ...]]]) -> str:
    return " ".join("x".join(map(str, next(iter(a.values()), ()))) for a in assignments)


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    files = [f for path in args.paths for f in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    right = True
    for file in files:
        if not re.search(args.only, file.stem):
            continue
        try:
            good, row = judge(file, args.keep)
        except OnnxMergeError as error:
            good, row = False, one_line(str(error))
        right &= good
        print(f"{file.stem:36} {row}", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
