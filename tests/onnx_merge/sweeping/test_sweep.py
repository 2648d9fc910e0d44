"""Sweeps from end to end: the same models as single runs make, wherever they are made."""

import contextlib
import csv
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from smallnet import names, network

import onnx_merge
from onnx_merge.cli import main as cli
from onnx_merge.config.options import Options
from onnx_merge.errors import NotCompressibleError, UsageError
from onnx_merge.io import save
from onnx_merge.sweeping import candidates, executors, sweep
from onnx_merge.sweeping.files import shares

ROOT = Path(__file__).parents[3]
DIGITS, LABELS, CALIB = (ROOT / "models" / name for name in ("digits_cnn.onnx", "digits_test.npz", "digits_calib.npz"))
REPORTS = ["sweep.csv", "sweep.json", "sweep.png"]
FIXED = ["--align", "1"]
"""The kernels' block is measured otherwise."""


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.onnx"))}


def failure(capsys, *arguments):
    """Exit code and message of a sweep that must fail with one line."""
    code = cli.main(["sweep", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err, err
    return code, err.removeprefix("onnx-merge: error: ").strip()


def test_a_sweep_gives_what_single_runs_give(tmp_path, monkeypatch, capsys):
    """On CUDA two runs differ in the last bits."""
    monkeypatch.chdir(ROOT)
    options = ["--labels", LABELS, "--align", "8", "--calib-samples", "16", "--provider", "cpu"]
    options += ["--calib", CALIB, "--effort", "low"]
    arguments = ["sweep", DIGITS, "-o", f"{tmp_path}/sizes/", "--from", "0.3", "--to", "0.4", "--steps", "2", *options]
    assert cli.main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line for line in out.splitlines() if not line.startswith("note: ")]
    assert [line.split()[0] for line in lines[2:5]] == ["original", "0.3", "0.4"]
    assert names(tmp_path / "sizes") == ["keep-0.30.onnx", "keep-0.40.onnx", *REPORTS]
    found = json.loads((tmp_path / "sizes" / "sweep.json").read_text())
    assert [p["sha256"] for p in found["points"]] == list(hashes(tmp_path / "sizes").values())
    for point in found["points"][1:]:
        single = [DIGITS, tmp_path / "one.onnx", "--keep", point["keep"], "--no-gate", "--force", "--quiet", *options]
        report = tmp_path / "one.json"
        assert cli.main([*map(str, [*single, "--report", report])]) == 0
        result = json.loads(report.read_text())
        assert point["sha256"] == result["output"]["sha256"]
        assert point["accuracy"] == result["accuracy"]["after"] and point["bytes"] == result["after"]["bytes"]
        assert point["macs"] == result["after"]["macs"] and found["before"]["macs"] == result["before"]["macs"]


def test_processes_give_what_one_gives(tmp_path):
    """With as many threads for each."""

    def swept(name, where):
        options = Options.make({"keep": 1, "align": 1, "calib_samples": 32})
        return sweep.run(network(), tmp_path / name, options, shares(0.25, 0.75, 3), where)

    one = swept("one", contextlib.nullcontext(executors.InProcess(executors.share_of_cores(2))))
    two = swept("two", executors.executor(2))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two") and len(hashes(tmp_path / "one")) == 3
    assert [p.cost for p in one.points] == [p.cost for p in two.points]
    assert [p.fidelity.cosine for p in one.points] == pytest.approx([p.fidelity.cosine for p in two.points])
    assert one.notes == two.notes and [p.keep for p in two.points] == [0.25, 0.5, 0.75]


def test_a_job_that_was_sent_gives_the_same(here):
    """Generators cannot be sent, and are not needed any more."""
    jobs = []

    class Spy(executors.InProcess):
        def run(self, job, keeps):
            jobs.append(job)
            return super().run(job, keeps)

    rng = np.random.default_rng(0)
    samples = ({"x": rng.standard_normal((1, 16)).astype(np.float32)} for _ in range(64))
    options = Options.make({"keep": 1, "align": 1, "calib": samples})
    sweep.run("in.onnx", "out", options, (0.3, 0.6), contextlib.nullcontext(Spy()), progress=print)
    packed = candidates.pack(jobs[0])
    for keep in (0.6, 0.3, 0.6):
        result = candidates.run_packed(packed, candidates.Candidate(keep))
        assert result.reason is None
        content = (here / "out" / f"keep-{keep:.2f}.onnx").read_bytes()
        assert pickle.loads(pickle.dumps(result)).model.SerializeToString() == content


def test_statistics_are_found_once(here, monkeypatch):
    from passes.reconstruction import weight_variant

    asked = []
    real = weight_variant.observe_channels
    monkeypatch.setattr(weight_variant, "observe_channels", lambda *a: asked.append(a) or real(*a))
    onnx_merge.sweep("in.onnx", "out", steps=4, align=1)
    assert len(asked) == 1


def test_from_python(here):
    plain = {"method": "merge", "allocation": "uniform", "provenance": False}
    found = onnx_merge.sweep(network(), "out", start=0.25, stop=1, steps=4, **plain)
    assert [p.keep for p in found.points] == [0.25, 0.5, 0.75, 1.0] and found.metric == "top1_agreement"
    assert onnx.load("out/keep-1.00.onnx") == network() and names(here / "out")[-3:] == REPORTS
    assert found.points[0].cost.macs < found.points[3].cost.macs == found.before.macs
    assert found.points[0].file.path == "keep-0.25.onnx" and found.input.path is None
    with pytest.raises(UsageError, match="keep is for a single run"):
        onnx_merge.sweep("in.onnx", "other", keep=0.5)
    with pytest.raises(UsageError, match="report is for a single run"):
        onnx_merge.sweep("in.onnx", "other", report="r.json")


def test_a_gate_rejects_some(here, capsys):
    arguments = ["sweep", "in.onnx", "-o", "out", "--steps", "2", "--to", "1", "--min-cosine", "0.9999", *FIXED]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "rejected: the cosine of the outputs is" in out and "0.3 " in out
    assert names(here / "out") == ["keep-0.30.rejected.onnx", "keep-1.00.onnx", *REPORTS]
    rows = list(csv.DictReader((here / "out" / "sweep.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["rejected", "done"] and rows[0]["cosine"]
    arguments = ["sweep", "in.onnx", "-o", "out", "--steps", "2", "--to", "0.9", "--force", *FIXED]
    assert cli.main(arguments) == 0
    assert "models of an earlier sweep are still in out: keep-1.00.onnx" in " ".join(capsys.readouterr().out.split())
    arguments = ["sweep", "in.onnx", "-o", "new", "--steps", "2", "--to", "0.4", "--min-cosine", "0.9999", *FIXED]
    assert cli.main(arguments) == 4
    assert "none of 2 shares gave a model: the cosine" in capsys.readouterr().err
    assert names(here / "new") == ["keep-0.30.rejected.onnx", "keep-0.40.rejected.onnx", *REPORTS]


def test_a_share_that_fails_does_not_stop_the_others(here, monkeypatch, capsys):
    real = candidates.Job.compress

    def fails(self, settings):
        if settings.keep == 0.6:
            raise KeyError("w\n1")
        if settings.keep == 0.3:
            raise MemoryError
        return real(self, settings)

    monkeypatch.setattr(candidates.Job, "compress", fails)
    assert cli.main(["sweep", "in.onnx", "-o", "out", "--steps", "3", *FIXED]) == 0
    out = capsys.readouterr().out
    assert "failed: internal error: KeyError" in out and "failed: not enough memory" in out
    assert names(here / "out") == ["keep-0.90.onnx", *REPORTS]


def test_where_none_succeeds_a_fault_of_ours_is_what_is_said(here, monkeypatch, capsys):
    def fails(self, settings):
        raise KeyError("w") if settings.keep == 0.3 else NotCompressibleError("too small")

    monkeypatch.setattr(candidates.Job, "compress", fails)
    assert cli.main(["sweep", "in.onnx", "-o", "out", "--steps", "3", *FIXED]) == 1
    assert "none of 3 shares gave a model: internal error: KeyError: 'w'" in capsys.readouterr().err


def test_nothing_to_do(here, capsys):
    code = cli.main(["sweep", "in.onnx", "-o", "out", "--exclude", ".", *FIXED])
    out, err = capsys.readouterr()
    assert code == 4 and "none of 7 shares gave a model" in err and "nothing was written" in out
    assert names(here) == ["in.onnx"]
    with pytest.raises(NotCompressibleError):
        onnx_merge.sweep("in.onnx", "out", exclude=".", align=1)


def test_latency_is_measured_for_those_who_ask(here, monkeypatch):
    monkeypatch.setattr("onnx_merge.compression.benchmark.compare_latency", fake_latency)
    found = onnx_merge.sweep("in.onnx", "out", steps=2, align=1, method="merge", benchmark=[1, 8])
    assert [[latency.batch for latency in p.latency] for p in found.points] == [[1, 8], [1, 8]]
    assert "benchmark" in found.seconds
    assert not onnx_merge.sweep("in.onnx", "new", steps=2, align=1, method="merge").points[0].latency


def fake_latency(models, feeds, *arguments, **settings):
    from onnx_merge.latency.measure import Latencies, Timed

    assert models[1].exists()
    return Latencies((Timed(2.0, 3.0, 1.0), Timed(1.0, 2.0, 0.5)), 5, 1, 1, "cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.onnx"], "name the folder for the models"),
        (["-o", "out"], "name the model"),
        (["in.onnx", "out"], "is it the folder? name it with -o"),
        (["in.onnx", "-o", "in.onnx"], "in.onnx is a file: name a folder"),
        (["in.onnx", "-o", "none/out"], "does not exist: create it first"),
        (["in.onnx", "-o", "out", "--steps", "1"], "steps must be at least 2"),
        (["in.onnx", "-o", "out", "--from", "0.9", "--to", "0.3"], "0.9 is not below 0.3"),
        (["in.onnx", "-o", "out", "--keep", "0.5"], "sweep takes no --keep"),
        (["in.onnx", "-o", "out", "--stps", "2"], "did you mean --steps?"),
        (["in.onnx", "-o", "out", "--jobs", "0"], "jobs must be at least 1"),
        (["in.onnx", "-o", "out", "--exclude", "absent", *FIXED], "'absent' matches no layer"),
        (["bad.onnx", "-o", "out"], "is not an ONNX model"),
        (["none.onnx", "-o", "out"], "none.onnx does not exist"),
        (["in.onnx", "-o", "out", "--config", "c.toml"], "report is for a single run"),
    ],
)
def test_arguments_that_make_no_sense(here, capsys, arguments, said):
    (here / "bad.onnx").write_bytes(b"hello")
    (here / "c.toml").write_text('report = "r.json"')
    code, message = failure(capsys, *arguments)
    assert code == 2 and said in message
    assert names(here) == ["bad.onnx", "c.toml", "in.onnx"]


@pytest.mark.parametrize("name", ["keep-0.60.onnx", "sweep.csv", "sweep.json", "sweep.png"])
def test_files_that_exist_are_refused_before_the_work(here, capsys, monkeypatch, name):
    (here / "out").mkdir()
    (here / "out" / name).write_text("precious")
    with monkeypatch.context() as patched:
        patched.setattr(sweep, "load_source", None)
        code, message = failure(capsys, "in.onnx", "-o", "out")
    assert code == 2 and f"out/{name} exists: choose another name, or replace it with --force" in message
    assert (here / "out" / name).read_text() == "precious" and names(here / "out") == [name]
    assert (
        cli.main(["sweep", "in.onnx", "-o", "out", "--steps", "3", "--method", "merge", "--force", "-q", *FIXED]) == 0
    )
    assert (here / "out" / name).read_bytes() != b"precious"


def test_the_input_is_never_touched(here, capsys):
    (here / "keep-0.30.onnx").write_bytes((here / "in.onnx").read_bytes())
    code, message = failure(capsys, "keep-0.30.onnx", "-o", ".", "--force")
    assert code == 2 and "is the input itself" in message


def test_a_full_disk_leaves_nothing_half_written(here, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save.os, "fsync", full)
    code, message = failure(capsys, "in.onnx", "-o", "out", "--method", "merge", *FIXED)
    assert code == 1 and "the disk is full" in message and names(here) == ["in.onnx"]


def test_a_process_that_dies(here, monkeypatch):
    """Of too little memory, as a rule. What it had to do is tried once more."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    tries = []

    def dies(path, some, jobs):
        tries.append((jobs, [candidate.keep for candidate in some]))
        yield executors._run_from(path, some[0])
        if len(tries) in deaths:
            raise TerminatedWorkerError("killed")
        yield from (executors._run_from(path, candidate) for candidate in some[1:])

    monkeypatch.setattr(executors, "_side_by_side", dies)
    deaths = (1,)
    found = onnx_merge.sweep("in.onnx", "out", steps=3, jobs=4, align=1, method="merge")
    assert tries == [(4, [0.9, 0.6, 0.3]), (2, [0.6, 0.3])] and [p.status for p in found.points] == ["done"] * 3
    deaths = (1, 2)
    tries.clear()
    found = onnx_merge.sweep("in.onnx", "new", steps=3, jobs=4, align=1, method="merge")
    assert [p.status for p in found.points] == ["failed", "done", "done"] and "take fewer --jobs" in found.points[
        0
    ].reason


def test_a_plain_run_imports_nothing_of_a_sweep(here):
    code = (
        "import sys, onnx_merge.cli.main as c; code = c.main(sys.argv[1:]);"
        "sys.exit(code or sorted({'matplotlib', 'joblib', 'distributed'} & set(sys.modules)) or 0)"
    )
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "-q", "--calib", "none", *FIXED]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_imports_nothing_slow():
    code = (
        "import sys, onnx_merge.cli.main as c; code = c.main(['sweep', '--help']);"
        "sys.exit(code or sorted({'numpy', 'onnx', 'rich', 'matplotlib', 'joblib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert all(f"--{name} " in done.stdout for name in ("from", "to", "steps", "jobs", "scheduler", "labels", "force"))
