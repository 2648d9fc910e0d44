"""Pages of runs, inspections and sweeps: complete, escaped, and without anything to load."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from pagekit import Page
from smallnet import names, network

from onnx_merge import inspect_model, optimize, sweep
from onnx_merge.cli import main as cli
from onnx_merge.errors import UsageError
from onnx_merge.evaluation.drop_bounds import Promise
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.html.inspection_page import inspection_page
from onnx_merge.html.run_page import run_card, run_page
from onnx_merge.html.sweep_page import sweep_page
from onnx_merge.latency.measure import Latency
from onnx_merge.metrics.measure import Measured
from onnx_merge.report.result import FormatResult
from passes.interface.reason import planned

HOSTILE = "</script><img src=x onerror=alert(1)>\"'{{7*7}}&lt;"


def samples(count=48):
    return {"x": np.random.default_rng(1).standard_normal((count, 16), np.float32)}


@pytest.fixture(scope="module")
def result():
    return optimize(network(), keep=0.5, calib=[{"x": row} for row in samples()["x"][:, None]], gate=False)[1]


@pytest.fixture(scope="module")
def page(result):
    return Page(run_page(result.report))


def test_a_run_says_what_was_done(result, page):
    gone = sum(group.size - group.kept for group in result.groups)
    whole = sum(group.size for group in result.groups)
    assert f"{gone} of {whole} channels were removed" in page.text
    assert f"{result.before.macs:,} → {result.after.macs:,}" in page.text
    assert f"{result.before.params:,} → {result.after.params:,}" in page.text
    assert result.fidelity.why in page.text and "held out" in page.text and "Nothing is promised" in page.text
    assert f"{result.fidelity.samples:,} samples" in page.text


def test_every_group_has_a_row_and_every_layer_too(result, page):
    for index, group in enumerate(result.groups):
        row = " ".join(page.rows[f"g{index}"])
        assert group.name in row and f"{group.size}" in row and f"{group.kept}" in row
        assert group.reason is None or str(group.reason) in row
    assert [layer.name for layer in result.layers] == ["first", "second", "head"]
    assert all(layer.name in page.text for layer in result.layers)
    links = {a["href"][1:] for a in page.all("a") if "href" in a}
    assert links <= set(page.ids) and len(page.ids) == len(set(page.ids))


def test_measured_losses_are_drawn(result, page):
    curves = [a["points"] for a in page.all("polyline")]
    assert len(curves) == sum(bool(group.losses) for group in result.groups) > 0


def test_pages_load_nothing_and_stay_small(result, page):
    page.loads_nothing()
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
    assert len(page.source.encode()) < 100_000
    assert "http://" not in page.source and "https://" not in page.source


def test_names_and_reasons_are_text(result):
    groups = tuple(replace(group, name=HOSTILE, reason=planned(HOSTILE)) for group in result.groups)
    layers = tuple(replace(layer, name=HOSTILE, op=HOSTILE, group=HOSTILE) for layer in result.layers)
    some = replace(result, groups=groups, layers=layers, notes=(HOSTILE,), doubts=(HOSTILE,), argv=(HOSTILE, HOSTILE))
    for text in (run_page(some.report), run_card(some.report)):
        found = Page(text)
        assert not found.all("img") and len(found.all("script")) == text.count("<script>") <= 1
        assert HOSTILE in found.text and "49" not in [word.strip("\"'") for word in found.text.split()]
    Page(run_page(some.report)).loads_nothing()


def test_a_hostile_model_is_inspected(tmp_path):
    model = network()
    for node in model.graph.node:
        node.name = f"{node.name}{HOSTILE}"
    found = Page(inspection_page(inspect_model(model).to_dict()))
    found.loads_nothing()
    assert not found.all("img") and f"first{HOSTILE}" in found.text


def test_names_that_are_no_text_are_written(result, tmp_path):
    path = replace(result, notes=("a\udcff",)).html(tmp_path / "p.html")
    assert "a\\udcff" in path.read_text("utf-8")


def test_nothing_was_measured(result):
    some = replace(result, fidelity=None, groups=(), layers=(), ware=None, environment={}, after=result.before)
    found = Page(run_page(some.report))
    assert "No channel was removed" in found.text and "not compared" in found.text


def test_what_was_measured_and_promised(result):
    latency = Latency(2.0, 1.0, 2.5, 1.5, 0.5, "cpu", 2, 1, 30)
    some = replace(
        result,
        latency=(latency, replace(latency, batch=8, after_ms=123.4)),
        accuracy=Accuracy(99.0, 98.5, 500),
        metric=Measured("folder/mine.py:f1", 0.75, -np.inf, 1200),
        promise=Promise(1.0, 0.95, 500, 3, 0.4, "accuracy"),
        missed="f1 is below 0.5",
    )
    text = Page(run_page(some.report)).text
    assert "99.00% → 98.50%" in text and "−0.50 points, on 500 labelled samples" in text
    assert "mine.py:f1" in text and "folder" not in text and "on 1,200 samples" in text
    assert "2.00 ms → 1.00 ms" in text and "batch 8" in text and "123 ms" in text and "--benchmark" not in text
    assert "it loses at most 1 point of accuracy, with confidence 0.95, on samples like the 500 held out" in text
    assert "Nothing is promised" not in text and "Rejected: f1 is below 0.5" in text
    assert "was not measured" not in text and "share: of runs side by side" in text
    assert "--benchmark times both" in Page(run_page(result.report)).text


def test_made_up_samples_beside_labelled_ones_are_named(result):
    for made_up, others in ((True, "256 made-up samples"), (False, "256 other samples")):
        fidelity = replace(result.fidelity, real=True, fitted=256, fitted_made_up=made_up)
        text = Page(run_page(replace(result, fidelity=fidelity).report)).text
        assert f"held out: layers were fitted to {others}." in text


def test_what_was_not_measured_is_said(result):
    assert result.report["fidelity"]["samples"]
    said = "What the model is used for was not measured: that takes --labels or --metric."
    assert said in Page(run_page(result.report)).text
    assert said not in Page(run_page(replace(result, fidelity=None).report)).text


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({}, ": cutting others costs the outputs less, or widths are multiples of 16."),
        ({"allocation": "uniform"}, ": widths are multiples of 16."),
        ({"plan": "plan.json"}, ": widths are multiples of 16."),
    ],
)
def test_why_groups_are_left_whole(result, options, reasons):
    assert "Groups left whole" not in Page(run_page(result.report)).text
    report = replace(result, options=options).report
    whole = [{**group, "status": "kept", "kept": group["size"]} for group in report["groups"]]
    allocation = {"block": 16, "strict": True, "reason": "probed"}
    text = Page(run_page({**report, "groups": whole, "allocation": allocation})).text
    assert f"all their channels are kept at this size{reasons}" in text
    narrow = [{**group, "size": 16} for group in whole]
    text = Page(run_page({**report, "groups": narrow, "allocation": {**allocation, "strict": False}})).text
    assert "widths are multiples of 4, since no group is wide." in text
    assert "multiples of 4, since no group is wide: probed" in text and "multiples of 16" not in text


def test_number_formats(result):
    rows = (
        FormatResult("original", 1000, None, None, None, {"1": 2.0}),
        FormatResult("result", 250, 0.01, 0.02, 98.5, {"1": 0.5, "8": 3.0}),
    )
    page = Page(run_page(replace(result, formats=rows, options={"then": "int8"}).report))
    assert "Latency, batch 1" in page.text and "Latency, batch 8" in page.text
    assert "250 bytes 0.500 ms 3.00 ms 98.50% 2% 0.01" in page.text and "then converted to int8" in page.text
    assert "formats" in page.ids


def test_infinite_and_missing_numbers(result):
    groups = tuple(replace(group, error=np.inf, losses=((0, np.inf), (3, 0.0))) for group in result.groups)
    Page(run_page(replace(result, groups=groups).report)).loads_nothing()


def test_a_call_from_python_can_be_repeated(page):
    assert "onnx_merge.optimize(model, keep=0.5, calib=...)" in page.text


def test_a_command_can_be_repeated(result):
    argv = ("in.onnx", "out.onnx", "--keep", "0.5", "--exclude", "a b", "--labels", "x" * 60)
    text = run_page(replace(result, argv=argv).report)
    assert "onnx-merge in.onnx out.onnx \\\n    --keep 0.5 \\\n    --exclude &#39;a b&#39; \\\n" in text
    assert "onnx-merge in.onnx out.onnx --keep 0.5" in run_page(replace(result, argv=argv[:4]).report)


def test_an_inspection():
    found = inspect_model(network())
    page = Page(inspection_page(found.to_dict()))
    page.loads_nothing()
    for index, group in enumerate(found.groups):
        row = " ".join(page.rows[f"g{index}"])
        assert group.name in row and f"{group.size}" in row and (group.reason is None or str(group.reason) in row)
    assert f"{found.model.macs:,}" in page.text and all(str(reason.reason) in page.text for reason in found.reasons)


def test_a_sweep(here):
    found = sweep("in.onnx", "sizes", start=0.3, stop=0.9, steps=3, html="sizes/page.html")
    page = Page((here / "sizes" / "page.html").read_text("utf-8"))
    page.loads_nothing()
    assert page.source == sweep_page(found.to_dict())
    for point in found.points:
        assert f"keep {point.keep:g}" in "".join(page.source) and point.file.path in page.text
    assert found.knee is None or f"The knee is keep {found.knee.keep:g}" in page.text
    assert "Latency" not in page.text
    one = {**Latency(2.0, 1.0, 2.5, 1.5, 0.5, "cpu", 2, 1, 30).to_dict(), "batch": 1}
    report = found.to_dict()
    report["points"][0]["latency"] = {**one, "batches": [one, {**one, "batch": 8, "after_ms": 3.0}]}
    text = Page(sweep_page(report)).text
    assert "Latency, batch 1" in text and "Latency, batch 8" in text and "1.00 ms 3.00 ms" in text


def test_a_sweep_without_a_model(here):
    report = sweep("in.onnx", "sizes", start=0.3, stop=0.9, steps=2).to_dict()
    point = dict.fromkeys(report["points"][0]) | {"keep": 0.3, "frontier": False, "knee": False}
    points = [point | {"status": "failed", "reason": HOSTILE}]
    nothing = {"points": points, "metric": None, "metric_name": None, "knee": None, "frontier": []}
    found = Page(sweep_page(report | nothing))
    found.loads_nothing()
    assert HOSTILE in found.text and "none stands out" in found.text


def test_a_page_of_a_sweep_replaces_no_other_output(here):
    for name in ("sweep.json", "keep-0.30.onnx"):
        with pytest.raises(UsageError, match="would replace"):
            sweep("in.onnx", "sizes", html=f"sizes/{name}")
    assert names(here) == ["in.onnx"]


def test_the_command_line(here, capsys):
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--html", "p.html", "--report", "r.json"]) == 0
    assert cli.main(["inspect", "in.onnx", "--html", "i.html"]) == 0
    capsys.readouterr()
    page = Page((here / "p.html").read_text("utf-8"))
    assert "in.onnx → out.onnx" in page.text and "onnx-merge in.onnx out.onnx" in page.text
    assert page.source == run_page(json.loads((here / "r.json").read_text("utf-8")))  # the page needs the report only
    assert "in.onnx" in Page((here / "i.html").read_text("utf-8")).text


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["in.onnx", "out.onnx", "--html", "none/p.html"], "does not exist"),
        (["in.onnx", "out.onnx", "--html", "in.onnx"], "the input itself"),
        (["in.onnx", "out.onnx", "--html", "out.onnx"], "the page would replace another output, out.onnx"),
        (["in.onnx", "out.onnx", "--html", "a", "--report", "a"], "the page would replace another output, a"),
        (["in.onnx", "out.onnx", "--html", "old.html"], "old.html exists"),
        (["in.onnx", "out.onnx", "--html-samples"], "give --html PAGE too"),
        (["inspect", "in.onnx", "--html", "old.html"], "old.html exists"),
        (["sweep", "in.onnx", "-o", "sizes", "--html", "old.html"], "old.html exists"),
    ],
)
def test_bad_paths_are_refused_before_any_work(here, capsys, monkeypatch, arguments, why):
    (here / "old.html").write_text("old")
    monkeypatch.setattr(onnx, "load", None)  # nothing is loaded
    assert cli.main([*arguments, *(["--keep", "0.5"] if arguments[0] == "in.onnx" else [])]) == 2
    assert why in capsys.readouterr().err and names(here) == ["in.onnx", "old.html"]
    assert (here / "old.html").read_text() == "old"
