"""Does the reported number order models as their task does?

    python benchmarks/reported_loss.py NETWORKS.toml --out results.jsonl [--keep 0.9 0.8 0.6] [--only REGEX]
                                       [--limit SECONDS] [--work FOLDER]

Each network is compressed to equal multiply-adds (those that `--allocation uniform` leaves at each keep) by four ways,
with samples and without; a judge of the network's own task measures each result. One JSON line a model goes to --out; a
model that is there already is not made again. At the end: Spearman's rank correlation between the reported loss and the
task's, partialled on the multiply-adds and pooled over the networks, and each verdict that the task contradicts.

NETWORKS.toml, paths relative to it:

    [[network]]
    name = "spotter"
    model = "spotter.onnx"
    calib = "calib.npz"
    judge = "python judge.py {model} --reference {original}"    # printed: the measure, and maybe F1 in 0..1
    measure = "accuracy ([0-9.]+)"
    falls = true            # whether a worse model has less of it (false: a loss)
    scale = 100.0           # what a whole point of the task is 1/100 of; for losses leave it out
    options = []            # more options of onnx-merge
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

WAYS = {
    "auto": ["--allocation", "auto"],
    "uniform": ["--allocation", "uniform"],
    "merge": ["--allocation", "uniform", "--method", "merge"],
    "prune": ["--allocation", "uniform", "--method", "prune"],
}
"""Those that look at weights alone give the same model with samples and without, but not the same report."""
GREAT, SMALL = 10.0, 0.3
"""Points of the task that no good model loses, and that make no model bad."""
ACCEPTABLE_F1, SAME = 0.9, 0.98
"""F1 below which no model is good, and from which on none is bad."""


@dataclass(frozen=True)
class Network:
    """A line of NETWORKS.toml."""

    name: str
    model: str
    judge: str
    measure: str
    calib: str | None = None
    falls: bool = True
    scale: float | None = None
    options: tuple[str, ...] = ()

    def measured(self, model: Path, folder: Path) -> float:
        """What the judge says of a model."""
        words = [word.format(model=model, original=folder / self.model) for word in shlex.split(self.judge)]
        words = [sys.executable if word == "python" else word for word in words]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        found = re.findall(self.measure, done.stdout)
        if not found:
            raise ValueError(f"{self.name}: the judge printed no {self.measure!r}: {done.stdout[-300:]!r}")
        return float(found[-1])

    def loss(self, before: float, after: float) -> float:
        """The task's loss relative to the original."""
        return (before - after if self.falls else after - before) / abs(before)

    def points(self, before: float, after: float) -> float | None:
        """Points of a hundred that are lost."""
        return None if self.scale is None else 100 * (before - after) / self.scale


def main() -> int:
    """Make what is missing, and print what the results say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reported_loss.jsonl"))
    parser.add_argument("--keep", type=float, nargs="+", default=[0.9, 0.8, 0.6])
    parser.add_argument("--only", default="", help="regular expression for names of networks")
    parser.add_argument("--limit", type=float, default=float("inf"), help="no model is begun after so many seconds")
    parser.add_argument("--work", type=Path, help="where models go (a temporary folder, and not kept)")
    given = parser.parse_args()
    networks = [Network(**table) for table in tomllib.loads(given.networks.read_text())["network"]]
    networks = [network for network in networks if re.search(given.only, network.name)]
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, given.out.open("a") as out:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for network in networks:
            for line in _made(network, given.networks.resolve().parent, given.keep, lines, work):
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(_shown(line), flush=True)
                if time.monotonic() - begun > given.limit:
                    break
            if time.monotonic() - begun > given.limit:
                break
    names = {network.name: network for network in networks}
    print("\n".join(summary([line for line in lines if line["network"] in names and line["way"] != "original"], names)))
    return 0


def _made(
    network: Network, folder: Path, keeps: list[float], lines: list[dict[str, Any]], work: Path
) -> Iterator[dict[str, Any]]:
    """Lines that are not among ``lines``, to which they are added."""
    known = {(line["network"], line["way"], line["keep"], line["samples"]): line for line in lines}

    def add(key: tuple[str, str, float, bool], **more: Any) -> dict[str, Any]:
        line = {"network": key[0], "way": key[1], "keep": key[2], "samples": key[3], **more}
        known[key] = line
        lines.append(line)
        return line

    first = (network.name, "original", 1.0, False)
    if first not in known:
        yield add(first, measure=network.measured(folder / network.model, folder))
    before = known[first]["measure"]
    for keep in keeps:
        goal: float | None = None
        for way, options in WAYS.items():
            for samples in (True, False) if network.calib else (False,):
                key = (network.name, way, keep, samples)
                if key in known:
                    continue
                goal = goal or _uniform_macs(network, folder, keep, work)
                smaller, report = work / f"{network.name}-{way}-{keep}-{samples}.onnx", work / "report.json"
                calib = ["--calib", str(folder / str(network.calib))] if samples else []
                words = [str(folder / network.model), str(smaller), "--target-macs", f"{goal:.6f}", "--no-gate"]
                words += [*options, *calib, *network.options, "--report", str(report), "--force", "-q"]
                start = time.monotonic()
                done = subprocess.run(
                    [sys.executable, "-m", "onnx_merge", *words], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    yield add(key, failed=done.stderr.strip()[-300:], code=done.returncode)
                    continue
                written = json.loads(report.read_text())
                after = network.measured(smaller, folder)
                yield add(
                    key,
                    macs=written["after"]["macs"] / written["before"]["macs"],
                    measure=after,
                    loss=network.loss(before, after),
                    points=network.points(before, after),
                    fidelity=written["fidelity"],
                    seconds=round(time.monotonic() - start, 1),
                )


def _uniform_macs(network: Network, folder: Path, keep: float, work: Path) -> float:
    """Share of the multiply-adds that keeping the same share of every group leaves."""
    report = work / "uniform.json"
    words = [str(folder / network.model), "--keep", str(keep), "--allocation", "uniform", "--method", "prune"]
    words += [*network.options, "--dry-run", "--no-gate", "--report", str(report), "--force", "-q"]
    subprocess.run([sys.executable, "-m", "onnx_merge", *words], capture_output=True, check=True)
    written = json.loads(report.read_text())
    return float(written["after"]["macs"] / written["before"]["macs"])


def reported(fidelity: dict[str, Any]) -> float:
    """The number that stands for the result: the worst output's."""
    values = [max(output["changed"] or 0.0, output["nsr"] or 0.0) for output in fidelity["outputs"]]
    return max(values, default=float("nan"))


def partial_spearman(x: list[float], y: list[float], given: list[float]) -> float:
    """Rank correlation of x and y with the ranks of ``given`` regressed out of both."""
    a, b, c = (stats.rankdata(values) - (len(values) + 1) / 2 for values in (x, y, given))
    rest = [v - c * float(v @ c) / float(c @ c) for v in (a, b)]
    return float(rest[0] @ rest[1] / np.sqrt((rest[0] @ rest[0]) * (rest[1] @ rest[1])))


def summary(lines: list[dict[str, Any]], networks: dict[str, Network]) -> Iterator[str]:
    """Text: the correlation, of all and of each network, and verdicts that the task contradicts."""
    compared = [line for line in lines if line.get("fidelity")]
    for name in [*networks, None]:
        some = [line for line in compared if name in (None, line["network"])]
        if len(some) > 3:
            values = ([reported(x["fidelity"]) for x in some], [x["loss"] for x in some], [x["macs"] for x in some])
            yield f"{name or 'all':24} {len(some):4} models, partial rank correlation {partial_spearman(*values):.3f}"
    for line in compared:
        verdict, points = line["fidelity"]["verdict"], line["points"]
        f1 = line["measure"] if networks[line["network"]].scale == 1.0 else None
        lost = (points is not None and points > GREAT and f1 is None) or (f1 is not None and f1 < ACCEPTABLE_F1)
        fine = (points is not None and points <= SMALL and f1 is None) or (f1 is not None and f1 >= SAME)
        if (verdict == "good" and lost) or (verdict == "bad" and fine):
            yield f"contradicted: {_shown(line)}"
    for line in lines:
        if "failed" in line:
            yield _shown(line)


def _shown(line: dict[str, Any]) -> str:
    where = f"{line['network']} {line['way']} {line['keep']} {'samples' if line['samples'] else 'none'}"
    if "failed" in line:
        return f"{where}: exit {line['code']}: {line['failed']}"
    if "fidelity" not in line:
        return f"{where}: {line['measure']:.3f}"
    fidelity = line["fidelity"]
    return (
        f"{where}: MACs {line['macs']:.3f}, task {line['measure']:.3f}, {fidelity['verdict']}, {reported(fidelity):.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())
