"""How much of each model is found and removed, whether the result is right, and what is left whole and why.

    python benchmarks/coverage.py FOLDER_OR_FILES... [--keep 0.6] [--only REGEX] [--json OUT.json] [--reasons 3]
                                  [--no-peer] [--peer-simplify] [--peer-timeout 120]

Every channel group keeps ceil(keep x C) channels (method merge, criterion l1, coupled groups too). One row a model:

valid      passes onnx.checker with full_check (without it, where the original fails it too), loads and runs in
           onnxruntime on the CPU, and its outputs have the shapes of the original's and are finite where those are.
float32    distance from the unshrunk twin (see `passes.shrink`): max|a - b| / max|b| over each output, the largest, on
           random inputs, where a are the result's values and b the twin's. Exact is 1e-4 or less. Where the twin is
           within 1e-2 of the original (a head of zeros, layer scales of 1e-6), nothing could be seen: then all is done
           again on the model with random values for weights that are all equal, and a line says so.
float64    the same with both models in float64, where float32 is over 1e-4; exact if this is 1e-4 or less.
groups     channel groups found / shrunk / frozen. Some may be neither: too small to lose a channel at this share.
params,    parameters and multiply-adds left, as `passes.cost` counts them, after / before; before is the normalised
MACs       original, for us and for the peer.
plan s     seconds of axis inference and planning, stages "infer" and "plan" of `passes.pipeline`.
rest s     seconds of its other stages: normalising with shape inference, folding, surgery. Loading and checks are in
           neither. The first model pays for loading compiled code.

Under the row stand the reasons for what is frozen, the most costly first, groups of one reason together, names of nodes
left out. The cost is the share of the parameters (BatchNormalization folded) that stands on the frozen groups' axes:
what the weights would lose if all channels of these groups went (see `passes.cost.Holdings`); of a weight behind a
concat, the part for these channels. A weight between groups that are frozen for two reasons counts under both, so that
shares do not add up.

The peer is `onnxsim.apply_structured_pruning(model, sparsity=1 - keep)`, in a process of its own; with --peer-simplify
on what `onnxsim.simplify` makes of the model, which finds the patterns that the pruning looks for. Its columns are the
same (seconds: the calls alone, without loading and saving); "untouched" if it took nothing away, "invalid" if it is not
valid as above, "timeout", "crash". In the medians, what is untouched counts as 1, and what is not valid is left out.

Exit code 0 if every model is valid and exact, else 1. A file that cannot be read, or whose model does not run in
onnxruntime, fails with a line that says so.
"""

from __future__ import annotations

if __name__ == "coverage":  # numba asks for PyPI's, and in a script of this folder it would be given this file
    raise ImportError("this is a script, not the coverage of PyPI")

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from exactness import Arrays, float64_error, relative_error, run_checked, run_original, vary_equal_weights

from onnx_merge.errors import InputError, OnnxMergeError, one_line
from onnx_merge.load import load_model
from onnx_merge.observe import RunObserver
from onnx_merge.reasons import general
from onnx_merge.runtime import Session
from passes.cost import Cost, Holdings, cost
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Graph
from passes.normalise import normalise
from passes.pipeline import Compressed, CompressSettings, compress

EXACT = 1e-4
SEEN = 1e-2
"""How far the outputs must move when channels go for the comparison with the twin to tell anything."""
CHILD = "--prune-in-child"
VERDICTS = ("valid", "untouched", "invalid", "timeout", "crash")


@dataclass
class Outcome:
    """``verdict``: one of VERDICTS, ``detail`` says more. ``params``, ``macs``: shares left, also if invalid."""

    verdict: str
    detail: str = ""
    params: float | None = None
    macs: float | None = None
    seconds: float | None = None

    @property
    def valid(self) -> bool:
        return self.verdict in ("valid", "untouched")


@dataclass
class Reason:
    """``share`` of the parameters stands on the axes of ``groups`` frozen groups; ``example`` is the first of them."""

    text: str
    groups: int
    share: float
    example: str


@dataclass
class Ours(Outcome):
    """``seconds``: of inference and planning, ``rest_seconds``: of the other ``stages``; errors as the module says;
    ``moved``: distance of the twin from the original; ``varied``: whether they are of the model with varied weights."""

    error: float | None = None
    error64: float | None = None
    computed64: str = ""
    moved: float | None = None
    varied: bool = False
    found: int = 0
    shrunk: int = 0
    frozen: int = 0
    rest_seconds: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return self.valid and any(e is not None and e <= EXACT for e in (self.error, self.error64))

    @property
    def blind(self) -> bool:
        """Whether the comparison with the twin could not have seen much."""
        return self.shrunk > 0 and self.moved is not None and self.moved < SEEN


@dataclass
class Row:
    """A model; ``failure``: why there is nothing to say of it."""

    model: str
    failure: str | None = None
    ours: Ours | None = None
    peer: Outcome | None = None


@dataclass(frozen=True)
class Original:
    """What our result and the peer's are held against."""

    path: Path
    model: onnx.ModelProto
    feeds: Arrays
    outputs: Arrays
    cost: Cost

    def judge(self, model: onnx.ModelProto, outcome: Outcome) -> Arrays:
        """Fill in all of ``outcome`` but the seconds; returns the outputs of ``model``."""
        outputs, problem = run_checked(model, self.model, self.feeds, self.outputs)
        outcome.verdict, outcome.detail = ("invalid", problem) if problem else ("valid", "")
        if outputs:
            left = _cost(model)
            outcome.params = left.params / max(self.cost.params, 1)
            outcome.macs = left.macs / self.cost.macs if self.cost.macs else None
        return outputs


def _cost(model: onnx.ModelProto) -> Cost:
    return cost(Graph(normalise(model), {}, RunObserver()))


def load(path: Path) -> Original:
    """Read a model and run it. Raises OnnxMergeError with the line to print if that cannot be done."""
    loaded = load_model(path)
    if loaded.base_dir is not None:
        raise InputError(f"{path} has over 2 GB, which this benchmark does not read")
    feeds, outputs = run_original(loaded.model)
    return Original(path, loaded.model, feeds, outputs, _cost(loaded.model))


def measure(original: Original, keep: float) -> Ours:
    """Our result, and how it came about."""
    settings = CompressSettings(keep=keep, method="merge")
    compressed = compress(original.model, settings, RunObserver())
    ours = Ours("valid")
    outputs = original.judge(compressed.model, ours)
    if ours.valid:
        _compare_with_twin(original, compressed, outputs, ours)
        if ours.exact and compressed.shrinks and ours.moved is not None and ours.moved < SEEN:
            varied = vary_equal_weights(original.model)
            awake = replace(original, model=varied, outputs=Session(varied).run(original.feeds))
            again = compress(varied, settings, RunObserver())
            ours.varied = True
            _compare_with_twin(awake, again, Session(again.model).run(awake.feeds), ours)
    groups = [plan.group for plan in compressed.plans]
    ours.found, ours.shrunk = len(groups), sum(plan.shrinks for plan in compressed.plans)
    ours.frozen = sum(group.frozen is not None for group in groups)
    ours.stages = compressed.seconds
    ours.seconds = compressed.seconds["infer"] + compressed.seconds["plan"]
    ours.rest_seconds = sum(compressed.seconds.values()) - ours.seconds
    ours.reasons = reasons(compressed.typing, groups)
    return ours


def _compare_with_twin(original: Original, compressed: Compressed, outputs: Arrays, ours: Ours) -> None:
    ours.error, ours.error64, ours.computed64 = None, None, ""
    twin = compressed.twin()
    expected, problem = run_checked(twin, original.model, original.feeds, original.outputs)
    if problem is not None:
        ours.detail = f"the twin is not valid: {problem}"
        return
    ours.moved = relative_error(expected, original.outputs)
    ours.error = relative_error(outputs, expected)
    if ours.error is None or ours.error > EXACT:
        ours.error64, ours.computed64 = float64_error(compressed.model, twin, original.feeds)


def reasons(typing: Typing, groups: Sequence[ChannelGroup]) -> list[Reason]:
    """Why groups are frozen, the most costly reason first."""
    by_text: dict[str, list[ChannelGroup]] = defaultdict(list)
    for group in groups:
        if group.frozen is not None:
            by_text[general(group.frozen)].append(group)
    holdings = Holdings(typing)
    found: list[Reason] = []
    for text, held in by_text.items():
        share = holdings.of(group.atom for group in held).params_share
        found.append(Reason(text, len(held), share, f"{held[0].name}: {held[0].frozen}"))
    return sorted(found, key=lambda reason: -reason.share)


def measure_peer(original: Original, keep: float, simplify: bool, timeout: float) -> Outcome:
    """The peer's result, made in a process of its own, which may hang or die."""
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        target = Path(folder, "pruned.onnx")
        call = [sys.executable, __file__, CHILD, str(original.path), str(target), str(1 - keep), str(int(simplify))]
        try:
            done = subprocess.run(call, timeout=timeout, capture_output=True, text=True, errors="replace")
        except subprocess.TimeoutExpired:
            return Outcome("timeout", f"after {timeout:g} s")
        if done.returncode:
            said = done.stderr.strip().splitlines() or [""]
            return Outcome("crash", one_line(f"exit status {done.returncode} {said[-1]}"))
        pruned = onnx.load(target)
        outcome = Outcome("valid", seconds=float(target.with_suffix(".seconds").read_text()))
    original.judge(pruned, outcome)
    if outcome.valid and outcome.params == 1 and outcome.macs in (1, None):
        outcome.verdict = "untouched"
    return outcome


def prune_in_child(source: str, target: str, sparsity: str, simplify: str) -> None:
    """What the child does: prune the model and write it, with the seconds beside it."""
    onnxsim = importlib.import_module("onnxsim")
    model = onnx.load(source)
    start = time.perf_counter()
    if simplify == "1":
        model, _ = onnxsim.simplify(model)
    pruned = onnxsim.apply_structured_pruning(model, sparsity=round(float(sparsity), 9))
    seconds = time.perf_counter() - start
    onnx.save(pruned, target)
    Path(target).with_suffix(".seconds").write_text(str(seconds))


def cover(path: Path, width: int, args: argparse.Namespace, peer: str | None) -> Row:
    """Measure one model and print its row, as far as it has come at a time."""
    row = Row(path.stem)
    print(f"{row.model:{width}} ", end="", flush=True)
    try:
        original = load(path)
    except Exception as error:  # our own code may fail on it too; the other models go on
        row.failure = _said(error)
        print(f"FAILED: {row.failure}", flush=True)
        return row
    try:
        row.ours = measure(original, args.keep)
    except Exception as error:  # as above
        row.ours = Ours("crash", _said(error))
    print(_columns(row.ours), end="", flush=True)
    if peer is not None:
        try:
            row.peer = measure_peer(original, args.keep, args.peer_simplify, args.peer_timeout)
        except Exception as error:  # a result that cannot be read or counted
            row.peer = Outcome("invalid", _said(error))
        print(" |", _peer_columns(row.peer), end="")
    print("".join(f"\n    {line}" for line in _details(row, args.reasons)), flush=True)
    return row


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, OnnxMergeError) else one_line(f"{type(error).__name__}: {error}")


def _header(width: int, with_peer: bool) -> str:
    ours = f"{'model':{width}} valid  float32  float64       groups params   MACs plan s rest s"
    return f"{ours} | {'onnxsim':9} params   MACs      s" if with_peer else ours


def _columns(ours: Ours) -> str:
    groups = f"{f'{ours.found}/{ours.shrunk}/{ours.frozen}':>12}"
    left, seconds = (_cells(ours.params, ours.macs), _cells(ours.seconds, ours.rest_seconds, digits=2))
    return f"{'yes' if ours.valid else 'NO':5} {_tiny(ours.error)} {_tiny(ours.error64)} {groups} {left} {seconds}"


def _peer_columns(peer: Outcome) -> str:
    return f"{peer.verdict:9} {_cells(peer.params, peer.macs)} {_cells(peer.seconds, digits=2)}"


def _cells(*values: float | None, digits: int = 3) -> str:
    return " ".join(f"{'-' if v is None else f'{v:.{digits}f}':>6}" for v in values)


def _tiny(error: float | None) -> str:
    return f"{'-' if error is None else f'{error:.1e}':>8}"


def _details(row: Row, count: int) -> list[str]:
    """The lines under a row."""
    lines: list[str] = []
    if row.ours is not None:
        missed = "not twin-exact" if row.ours.valid and not row.ours.exact else ""
        computed = row.ours.computed64 and f"float64: {row.ours.computed64}"
        varied = "compared with the twin after equal weights were varied" if row.ours.varied else ""
        blind = (
            f"the twin is within {row.ours.moved:.0e} of the original: exactness tells little" if row.ours.blind else ""
        )
        lines += [line for line in (missed, row.ours.detail, computed, varied, blind) if line]
        for reason in row.ours.reasons[:count]:
            groups = f"{reason.groups} group{'s' if reason.groups > 1 else ''}"
            lines.append(f"{groups}, {reason.share:.0%} of parameters: {reason.text}")
    if row.peer is not None and row.peer.detail:
        lines.append(f"onnxsim: {row.peer.detail}")
    return lines


def summary(rows: Sequence[Row], peer: str | None) -> dict[str, Any]:
    """Counts and medians over all models."""
    ours = [row.ours for row in rows if row.ours is not None]
    figures: dict[str, Any] = {
        "models": len(rows),
        "failed": sum(row.failure is not None for row in rows),
        "valid": sum(o.valid for o in ours),
        "exact": sum(o.exact for o in ours),
        "exact_in_float64_only": sum(o.exact and (o.error is None or o.error > EXACT) for o in ours),
        "exact_with_varied_weights": sum(o.exact and o.varied for o in ours),
        "blind": sum(o.blind for o in ours),
        "groups": sum(o.found for o in ours),
        "shrunk": sum(o.shrunk for o in ours),
        "frozen": sum(o.frozen for o in ours),
        **_medians(ours),
        "rest_seconds": _median([o.rest_seconds for o in ours]),
    }
    if peer is not None:
        peers = [row.peer for row in rows if row.peer is not None]
        counts = {verdict: sum(p.verdict == verdict for p in peers) for verdict in VERDICTS}
        pairs = [(row.ours, row.peer) for row in rows if row.ours is not None and row.peer is not None]
        smaller = sum(o.exact and _left(o) < _left(p) for o, p in pairs)
        figures["peer"] = {"name": peer, **counts, **_medians(peers), "ours_smaller": smaller, "compared": len(pairs)}
    return figures


def _left(outcome: Outcome) -> float:
    return outcome.params if outcome.valid and outcome.params is not None else 1.0


def _medians(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    valid = [o for o in outcomes if o.valid]
    columns = {"params": [o.params for o in valid], "macs": [o.macs for o in valid]}
    columns["seconds"] = [o.seconds for o in valid]
    return {name: _median(values) for name, values in columns.items()}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _report(figures: dict[str, Any]) -> str:
    """The lines at the end."""

    def medians(of: dict[str, Any]) -> str:
        params, macs, seconds = _cells(of["params"], of["macs"], of["seconds"]).split()
        return f"medians: params {params}, MACs {macs}, {seconds} s"

    text = (
        f"{figures['models']} models: {figures['valid']} valid, {figures['exact']} twin-exact "
        f"({figures['exact_in_float64_only']} in float64 only, {figures['exact_with_varied_weights']} with varied "
        f"weights, {figures['blind']} hardly tested), {figures['failed']} failed; {medians(figures)} "
        f"+ {_cells(figures['rest_seconds']).strip()} s; groups {figures['groups']} found, {figures['shrunk']} shrunk, "
        f"{figures['frozen']} frozen"
    )
    if "peer" in figures:
        peer = figures["peer"]
        counts = ", ".join(f"{peer[verdict]} {verdict}" for verdict in VERDICTS)
        text += (
            f"\n{peer['name']}: {counts}; {medians(peer)}\nours is exact with fewer parameters left in "
            f"{peer['ours_smaller']} of {peer['compared']} (a result of the peer that is not valid counts as 1)"
        )
    return text


def _models(paths: Sequence[Path], only: str) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    return [file for file in files if re.search(only, file.stem)]


def _installed_peer() -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"onnxsim {importlib.metadata.version('onnxsim')}"
    return None


def main() -> int:
    """Print the rows and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER_OR_FILES")
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--reasons", type=int, default=3, metavar="N")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--peer-simplify", action="store_true")
    parser.add_argument("--peer-timeout", type=float, default=120, metavar="SECONDS")
    args = parser.parse_args()
    files = _models(args.models, args.only)
    if not files:
        parser.error("no model matches")
    peer = None if args.no_peer else _installed_peer()
    if peer is None and not args.no_peer:
        print("onnxsim is not installed (pip install onnxsim): its columns are left out")
    elif peer is not None and args.peer_simplify:
        peer += " after its simplify"
    width = max(len("model"), *(len(file.stem) for file in files))
    print(_header(width, peer is not None))
    rows: list[Row] = []
    for path in files:
        rows.append(cover(path, width, args, peer))
        gc.collect()  # graphs refer to themselves; the next model wants the memory
    figures = summary(rows, peer)
    print(_report(figures))
    if args.json is not None:
        exact = [row.ours is not None and row.ours.exact for row in rows]
        models = [{**asdict(row), "exact": e} for row, e in zip(rows, exact, strict=True)]
        table = {"keep": args.keep, "summary": figures, "models": models}
        args.json.write_text(json.dumps(table, indent=2, allow_nan=False) + "\n")
    return 0 if all(row.ours is not None and row.ours.exact for row in rows) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        prune_in_child(*sys.argv[2:])
    else:
        sys.exit(main())
