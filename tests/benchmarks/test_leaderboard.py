"""The leaderboard on a model that ships with the package: rows, what fails, resumption, and the committed pages."""

import functools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import leaderboard  # noqa: E402
from board import measure, methods, page, tasks  # noqa: E402
from board.methods import METHODS, Maker  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def task():
    return tasks.Digits(Path(), "digits_mlp", "small MLP")


def ends_its_process():
    os._exit(9)


def test_a_row_of_the_original_is_that_of_the_original(task, folder, monkeypatch):
    monkeypatch.setattr(measure, "LATENCY_SECONDS", 0.01)
    found = measure.row("digits_mlp", task, "original", folder)
    assert found.failure is None and (found.params, found.macs) == (1, 1)
    assert found.agreement == 100 and found.kl == pytest.approx(0, abs=1e-9) and found.measure > 98
    assert found.bytes == task.model().stat().st_size and found.latency > 0


def test_uniform_methods_and_onnxsim_leave_equal_macs(task, folder, monkeypatch):
    monkeypatch.setattr(measure, "LATENCY_SECONDS", 0.01)
    rows = [measure.row("digits_mlp", task, name, folder) for name in ("prune", "ridge", "int8")]
    assert all(row.failure is None for row in rows)
    assert rows[0].macs == rows[1].macs == pytest.approx(Maker(task, folder).goal, rel=0.01) and rows[2].macs == 1
    assert rows[1].kl < rows[0].kl and rows[2].bytes < rows[0].bytes
    pytest.importorskip("onnxsim")
    assert measure.row("digits_mlp", task, "onnxsim", folder).macs == pytest.approx(rows[0].macs, rel=0.01)


def test_what_goes_wrong_is_in_the_row(task, folder, monkeypatch):
    def broken(maker):
        raise ValueError("no such\nlayer")

    monkeypatch.setitem(METHODS, "broken", broken)
    found = measure.row("digits_mlp", task, "broken", folder)
    assert found.failure == "ValueError: no such layer"
    assert measure.as_line(found) == {"task": "digits_mlp", "method": "broken", "failure": found.failure}


def test_a_process_that_ends_is_in_the_row(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))  # where the process finds this module
    found = measure.measured("t", ends_its_process, "prune", folder, 60)
    assert found.failure == "its process ended with status 9"


def test_samples_judged_on_are_not_calibrated_on(task):
    judged, fitted = (next(iter(feeds.values())) for feeds in (task.judged(), task.calibration()))
    assert len(judged) == 500 and len(fitted) == 256
    assert not {row.tobytes() for row in judged} & {row.tobytes() for row in fitted}


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    asked = []

    def measured(name, make, method, folder, timeout):
        asked.append((name, method, folder))
        return measure.Row(name, method, "not tried")

    monkeypatch.setattr(leaderboard, "measured", measured)
    words = [str(tmp_path), str(tmp_path / "r.jsonl"), "--tasks", "digits_mlp", "--methods", "^(prune|merge)$"]
    assert leaderboard.main(words) == 0 and [method for _, method, _ in asked] == ["prune", "merge"]
    assert leaderboard.main([*words[:-1], "^(prune|merge|ours)$"]) == 0
    assert asked[2:] == [("digits_mlp", "ours", tmp_path / "made" / "digits_mlp")]
    first, *lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert json.loads(first)["environment"]["onnx"] and len(lines) == 3


def test_divergence_of_logits_and_of_probabilities():
    logits = np.random.default_rng(0).standard_normal((5, 7))
    shares = tasks.distributions(logits)
    assert np.allclose(shares.sum(-1), 1) and np.allclose(tasks.distributions(shares), shares)
    other = np.full((5, 7), 1 / 7)
    assert tasks.divergence(other, shares) == pytest.approx(float((shares * np.log(shares * 7)).sum(-1).mean()))


def test_tables_of_results():
    task = tasks.Digits(Path(), "digits_mlp", "small MLP")
    figures = {"agreement": 90.0, "measure": 80.0, "kl": 0.5, "macs": 0.7, "latency": 0.6, "bytes": 2000, "ms": 1.5}
    rows = [{"task": "d", "method": "original", **figures}, {"task": "d", "method": "ours", **figures}]
    rows.append({"task": "d", "method": "onnxsim", "failure": "a | b"})
    table = page.tables(rows, {"d": task, "none": task})
    assert "| ours, samples | 80.0 | 90.0 | 0.5 | 0.70 | 0.60 | 2 |" in table
    assert "| onnxsim, Wanda | a / b | | | | | |" in table
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert page.formats_table(rows, {"d": task}).endswith("| 0.60 (90.0) | - | - | - | - | - | - |\n")
    assert page.between(f"a\n{page.START}old\n{page.END}b\n", "new\n") == f"a\n{page.START}new\n{page.END}b\n"


def test_every_method_has_a_label():
    assert list(page.LABELS) == list(METHODS) and set(methods.CONVERTED) < set(METHODS)


def test_the_committed_pages_are_those_of_the_results():
    rows = leaderboard._lines(ROOT / "benchmarks" / "results" / "leaderboard.jsonl")
    made = {name: task(Path()) for name, task in leaderboard.TASKS.items()}
    for name, table in (("leaderboard", page.tables(rows, made)), ("number-formats", page.formats_table(rows, made))):
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert page.between(text, table) == text and page.START in text


def test_made_models_are_kept(task, folder, monkeypatch):
    maker = Maker(task, folder)
    first = maker.made("prune")
    monkeypatch.setitem(METHODS, "prune", None)
    assert maker.made("prune") == first


def test_tasks_are_made_without_their_data():
    assert all(isinstance(make, functools.partial | type) for make in leaderboard.TASKS.values())
    assert all(make(Path()).title for make in leaderboard.TASKS.values())
