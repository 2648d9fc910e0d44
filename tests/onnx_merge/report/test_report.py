"""The JSON report and the tables."""

import io
import json
import math
from dataclasses import replace

import onnx
import onnx.parser
import pytest
from schema import SCHEMA

from onnx_merge.compression.optimize import run
from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity
from onnx_merge.io.model_source import FileInfo
from onnx_merge.metrics.measure import Measured
from onnx_merge.report.group_result import GroupResult
from onnx_merge.report.result import AllocationResult, FormatResult, Result, write_report
from onnx_merge.report.table import render, shortened, shortened_pairs, without_repeats
from passes.cost.cost import Cost
from passes.interface.reason import Reason, planned

KEYS = [
    "schema_version", "version", "input", "output", "before", "after", "fidelity", "accuracy", "metric", "promise",
    "latency", "allocation",
    "ware", "groups", "seconds", "seed", "argv", "provider", "unfolded", "notes",
    "chosen", "doubts", "missed", "layers", "options", "samples_sha256", "environment", "formats",
]  # fmt: skip

UNVERIFIED = "unverified: the outputs were not compared"
FIDELITY = [
    "verdict", "why", "outputs", "cosine", "relative_l2", "top1_agreement", "samples", "held_out", "fitted",
    "fitted_made_up", "in_sample", "real", "source", "differences",
]  # fmt: skip


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Pipe(io.StringIO):
    encoding = "utf-8"


def group(name="conv1", size=64, kept=39, status="shrunk", reason=None, method="merge"):
    return GroupResult(name, size, kept, status, reason, method, None, (name,), ("conv2",))


def result(**changes):
    return replace(
        Result(
            version="0",
            input=FileInfo("in.onnx", "ab"),
            output=FileInfo("out.onnx", "cd"),
            before=Cost(1000, 2000, 4000, 10, {"Conv": 6, "Relu": 4}),
            after=Cost(500, 900, 2100, 9, {"Conv": 6, "Relu": 3}),
            fidelity=Fidelity(0.99, 0.1, 0.5, 64, "random", "cpu"),
            accuracy=None,
            allocation=AllocationResult("auto", 16, False, "probed", 0.3, 0.2),
            ware=0.125,
            groups=(group(), group("head", 10, 10, "frozen", Reason("tensor", "y", "is a graph output"), "none")),
            seconds={"load": 0.1, "total": 0.2},
            seed=0,
            argv=("in.onnx", "out.onnx"),
            provider="cpu",
            unfolded={},
            notes=(),
        ),
        **changes,
    )


def parsed(some):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(some.to_json(), parse_constant=refuse)


def test_keys_are_stable():
    found = parsed(result(accuracy=Accuracy(99.0, 98.0, 500)))
    assert list(found) == KEYS and set(KEYS) == SCHEMA["$defs"]["run"]["properties"].keys()
    assert found["input"] == {"path": "in.onnx", "sha256": "ab"} and list(found["output"]) == ["path", "sha256"]
    assert found["before"] == {"params": 1000, "macs": 2000, "bytes": 4000, "nodes": 10, "ops": {"Conv": 6, "Relu": 4}}
    assert list(found["after"]) == list(found["before"])
    assert list(found["fidelity"]) == FIDELITY
    assert found["accuracy"] == {"before": 99.0, "after": 98.0, "samples": 500} and found["ware"] == 0.125
    assert found["groups"][0] == {
        "name": "conv1",
        "size": 64,
        "kept": 39,
        "status": "shrunk",
        "reason": None,
        "method": "merge",
        "error": None,
        "producers": ["conv1"],
        "consumers": ["conv2"],
        "losses": [],
    }
    assert found["seconds"] == {"load": 0.1, "total": 0.2} and found["argv"] == ["in.onnx", "out.onnx"]


def test_a_metric():
    found = result(metric=Measured("mine.py:f1", 0.75, 0.625, 1200))
    assert parsed(found)["metric"] == {"name": "mine.py:f1", "before": 0.75, "after": 0.625, "samples": 1200}
    assert "metric    mine.py:f1 0.75 -> 0.625 (-0.125) on 1,200 samples\n" in render(found, Pipe())
    infinite = result(metric=Measured("psnr", math.inf, 41.25, 8))
    assert parsed(infinite)["metric"]["before"] is None and "psnr inf -> 41.25 on 8 samples" in render(infinite, Pipe())
    assert parsed(result())["metric"] is None and "metric" not in render(result(), Pipe())


def test_what_was_not_measured_is_null():
    found = parsed(result(fidelity=None))
    assert found["accuracy"] is None
    known = {"verdict": "untested", "why": UNVERIFIED, "outputs": [], "fitted_made_up": False, "in_sample": False}
    nothing = {**dict.fromkeys(FIDELITY), **known, "real": False, "samples": 0, "held_out": 0}
    assert found["fidelity"] == nothing


def test_there_is_no_nan_and_no_infinity():
    found = parsed(
        result(
            fidelity=Fidelity(math.nan, math.inf, None, 1, "random", "cpu"),
            accuracy=Accuracy(math.nan, 1.0, 1),
            groups=(replace(group(), error=math.inf),),
        )
    )
    assert found["fidelity"]["cosine"] is None and found["fidelity"]["relative_l2"] is None
    assert found["accuracy"] == {"before": None, "after": 1.0, "samples": 1} and found["groups"][0]["error"] is None


def test_a_real_run(tmp_path):
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,2] x) => (float[N,2] y)
        <float[2,4] w = {1,2,3,4,5,6,7,8}, float[4,2] v = {1,-2,3,4,-5,6,7,8}> {
            [first] h = MatMul(x, w)  r = Relu(h)  [last] y = MatMul(r, v) }""")
    arguments = ["a", "b"]
    path = tmp_path / "r.json"
    outcome = run(model, None, Options(keep=0.5, report=path, seed=7), argv=arguments)
    found = json.loads(path.read_text())
    assert list(found) == KEYS and found == parsed(outcome.result)
    assert found["argv"] == arguments and found["seed"] == 7 and found["input"]["path"] is None
    assert {g["status"] for g in found["groups"]} == {"shrunk", "frozen"}
    assert found["seconds"]["total"] == max(found["seconds"].values())  # stages may lie in others
    assert found["before"]["params"] == 16 and found["after"]["params"] == 8


def test_names_that_are_no_text_are_written(tmp_path):
    write_report(result(groups=(group(name="ä\udcff"),)), tmp_path / "r.json")
    assert "ä" in (tmp_path / "r.json").read_text(encoding="utf-8")


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_text("old")
    monkeypatch.setattr(Result, "to_json", None)
    with pytest.raises(TypeError):
        write_report(result(), path)
    monkeypatch.undo()
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OnnxMergeError, match="cannot be written"):
        write_report(result(), tmp_path / "none" / "r.json")


def test_before_and_after():
    lines = render(result(), Pipe()).splitlines()
    assert lines[0].split() == ["before", "after", "ratio"]
    assert lines[2].split() == ["parameters", "1,000", "500", "0.500"]
    assert [line.split()[0] for line in lines[2:6]] == ["parameters", "MACs", "bytes", "nodes"]
    assert lines[-4].split() == ["conv1", "64", "->", "39", "merge"]
    assert lines[-3].split() == ["head", "10", "->", "10", "-", "y", "is", "a", "graph", "output"]
    assert lines[-1].startswith("verdict   untested: ")


def test_division_by_nothing():
    assert render(result(before=Cost(0, 0, 0, 0, {})), Pipe()).splitlines()[2].split()[-1] == "-"
    assert "parameters" in render(result(groups=()), Pipe())


def close(*outputs, **changes):
    return replace(Fidelity(0.99, 0.1, None, 32, "calib my file.npz", "cpu", outputs), **changes)


SCORES = OutputFidelity("scores", 0.012, 0.004, 0.031, 0.008, 0.084, likely=(0.02, 0.05))
BOXES = OutputFidelity("boxes", 0.0003)


def test_how_close_the_outputs_are():
    text = render(result(fidelity=close(SCORES, BOXES, fitted=1256)), Pipe())
    line = "noise/signal 0.012 (worst: scores), classes changed 3.1% (0.8% to 8.4%), KL 0.004"
    assert f"outputs   {line} on 32 held-out samples of my file.npz (1,256 fitted) (cpu)\n" in text
    assert text.endswith("\nverdict   good: scores: 3.1% change class, limit 10%\n")
    text = render(result(fidelity=close(SCORES, fitted=256, fitted_made_up=True)), Pipe())
    assert " on 32 held-out samples of my file.npz (256 made-up ones fitted) (cpu)\n" in text
    text = render(result(fidelity=close(BOXES, in_sample=True), accuracy=Accuracy(99.0, 98.5, 1000)), Pipe())
    assert "outputs   noise/signal 0.0003 on 32 in-sample samples of my file.npz (cpu)" in text
    assert "accuracy  99.00% -> 98.50% (-0.50) on 1,000 samples" in text
    text = render(result(fidelity=close(BOXES, real=False, source="random")), Pipe())
    assert "outputs   noise/signal 0.0003 on 32 made-up samples (cpu)" in text
    assert "outputs   " not in render(result(fidelity=None), Pipe())
    faint = close(replace(BOXES, tested=False, reason="one sample shows no spread"))
    assert "noise/signal 0.0003, not tested on 32" in render(result(fidelity=faint), Pipe())
    unknown = close(OutputFidelity("y", tested=False, reason="its size depends on the sample"))
    assert "relative error 0.1, noise/signal unknown: its size depends" in render(result(fidelity=unknown), Pipe())


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_last_line_is_the_verdict_whatever_the_names(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "dumb")
    long = replace(BOXES, name=LONG, nsr=0.5)
    some = result(fidelity=close(long, SCORES), groups=(group(LONG),))
    lines = render(some, Terminal()).splitlines()
    assert lines[-1].startswith("verdict   bad: ") and max(map(len, lines)) <= width
    assert render(some, Terminal(), verbose=True).splitlines()[-1].endswith("noise/signal 0.5, limit 0.1")
    assert render(result(fidelity=None), Pipe()).splitlines()[-1] == f"verdict   untested: {UNVERIFIED}"


def test_no_line_is_left_out_where_outputs_were_not_compared():
    some = result(ware=0.125, latency=(), notes=("a note",), doubts=("a doubt",))
    lines = [line for line in render(some, Pipe()).splitlines() if not line.startswith(("outputs", "verdict", " "))]
    bare = render(replace(some, fidelity=None), Pipe()).splitlines()
    assert any(line.startswith("widths    multiples of 16") for line in lines)
    assert any(line.startswith("layers    12.5% of the variance") for line in lines)
    assert [line for line in lines if line not in bare] == []


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((64, 128), "multiples of 16: probed"),
        ((64, 16), "multiples of 16 in wide groups: probed"),
        ((16, 32), "multiples of 8 in wide groups: probed"),
        ((32, 40), "multiples of 8, since no group is wide: probed"),
    ],
)
def test_widths_by_the_groups_that_there_are(sizes, said):
    some = result(groups=(*(group(f"g{n}", n, n // 2) for n in sizes), group("y", 1000, 1000, "frozen")))
    assert f"widths    {said}; predicted" in render(some, Pipe())
    strict = replace(some, allocation=replace(some.allocation, strict=True))
    assert "widths    multiples of 16: probed" in render(strict, Pipe())


def test_notes_and_foldings():
    some = result(notes=("strict shape inference fails",), unfolded={"bn1": Reason("tensor", "x", "is a graph output")})
    text = render(some, Pipe())
    assert "note: strict shape inference fails\n" in text and "note: 1 BatchNormalization not folded" in text
    assert "note: bn1 is not folded: x is a graph output" in render(some, Pipe(), verbose=True)


LONG = "/features/features.5/block/block.0/block.0.0/branch_with_a_long_name/another_part/Conv"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_tables_fit_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    groups = (group(LONG), group(LONG, status="frozen", reason=Reason("scale", LONG, "", "HardSwish")), group())
    text = render(result(groups=groups), Terminal())
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if "64 -> 39" in line]) == 3
    assert lines[-3] == "(shortened to fit; -v shows all)"


def test_a_pipe_has_a_fixed_width_and_no_colours(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    groups = (group(LONG * 2, reason=planned("because " * 40)),)
    text = render(result(groups=groups), Pipe())
    assert "\x1b" not in text and max(map(len, text.splitlines())) in range(100, 121)
    assert all(line == line.rstrip() for line in text.splitlines())


def test_verbose_shortens_nothing():
    groups = (group(LONG * 2, reason=planned("because " * 40)),)
    text = render(result(groups=groups), Pipe(), verbose=True)
    assert LONG * 2 in text and ("because " * 40).strip() in text and "\n  Conv" in text


def test_colours_on_a_terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in render(result(), Terminal())


def test_names_are_not_markup():
    text = render(result(groups=(group("[bold]a[/bold]:smile:"),)), Pipe())
    assert "[bold]a[/bold]:smile:" in text


def test_shortening():
    assert shortened("abc", 3) == "abc"
    assert shortened("abcdefghij", 8) == "abcd..ij" and len(shortened("x" * 99, 17)) == 17
    assert without_repeats("/features/features.5/block/block.0/Conv (Conv)") == "/features.5/block.0/Conv (Conv)"
    assert without_repeats("plain") == "plain" and without_repeats("/a/b/a") == "/a/b/a"
    assert shortened_pairs([("/a/a.0/b", "r")], 9) == [("/a/a.0/b", "r")]
    assert shortened_pairs([("/a/a.0/b", "r")], 8) == [("/a.0/b", "r")]
    pairs = shortened_pairs([("n" * 50, "r" * 50), ("n", "")], 40)
    assert max(len(name) for name, _ in pairs) + max(len(reason) for _, reason in pairs) == 40


def test_number_formats_on_a_narrow_screen(monkeypatch):
    taken = {"1": 0.011, "8": 0.012, "64": 0.038}
    names = ("original", "compressed", "int8", "compressed + int8")
    found = result(formats=tuple(FormatResult(name, 204_120, 0.0072, 0.004, 98.8, taken) for name in names))
    monkeypatch.setenv("COLUMNS", "80")
    text = render(found, Terminal())
    assert all(name in text for name in names) and "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "batch 8" in text and "(shortened to fit, without batch 64; -v shows all)" in text
    text = render(found, Terminal(), verbose=True)
    assert "batch 64" in text and "without batch" not in text
