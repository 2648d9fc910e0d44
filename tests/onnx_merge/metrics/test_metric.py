"""The user's own measure: in the report, as a gate, in sweeps, and what is said where it fails."""

import contextlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from smallnet import names, network

from onnx_merge.cli import main as cli
from onnx_merge.compression.optimize import optimize
from onnx_merge.config.options import Options
from onnx_merge.errors import FidelityError, InputError, UsageError, UserCodeError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.metrics.metric import UserMetric, check_sendable, metric_of
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.sweeping import candidates, executors
from onnx_merge.sweeping import sweep as sweep_module
from onnx_merge.sweeping.sweep import sweep

pytestmark = pytest.mark.usefixtures("forgets_modules")
PLAIN = {"method": "merge", "align": 1, "gate": False}
"""Whatever becomes of the outputs."""
COUNTING = """
CALLS = {calls!r}

def error(predict, samples, labels):
    with open(CALLS, "a") as file:
        file.write("called\\n")
    return -float(abs(predict(samples)["y"] - labels).mean())
"""


@pytest.fixture
def samples(here):
    """``data.npz``: 40 samples, and as labels what the model gives for them, of which the first two are off by 1."""
    x = np.random.default_rng(1).standard_normal((40, 16), np.float32)
    y = Session(network(), CPU).run({"x": x})["y"]
    y[:2] += 1
    np.savez(here / "data.npz", x=x, labels=y)
    return x, y


@pytest.fixture
def counting(here, samples):
    """A metric that leaves a line for each call, and the number of them."""
    calls = here / "calls"
    (here / "mine.py").write_text(COUNTING.format(calls=str(calls)))
    return lambda: len(calls.read_text().split()) if calls.exists() else 0


def failure(capsys, *arguments):
    """Exit code and message of a run that must fail with one line."""
    code = cli.main([*map(str, arguments)])
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    return code, err.removeprefix("onnx-merge: error: ").strip()


def error_of(model, samples):
    x, y = samples
    return -float(abs(Session(model, CPU).run({"x": x})["y"] - y).mean())


def test_a_function_in_a_file(here, samples, counting):
    arguments = [
        "in.onnx",
        "out.onnx",
        "--keep",
        "0.5",
        "--labels",
        "data.npz",
        "--metric",
        "mine.py:error",
        "--no-gate",
    ]
    assert cli.main([*arguments, "--report", "r.json", "-q"]) == 0
    found = json.loads((here / "r.json").read_text())["metric"]
    assert list(found) == ["name", "before", "after", "samples"]
    assert found["name"] == "mine.py:error" and found["samples"] == 40
    assert found["before"] == pytest.approx(error_of(network(), samples)) == pytest.approx(-0.05)
    assert found["after"] == pytest.approx(error_of(onnx.load("out.onnx"), samples))
    assert counting() == 2, "once for the original and once for the result"


def test_the_table_has_a_line_of_it(here, samples, capsys):
    assert (
        cli.main(["in.onnx", "out.onnx", "--lossless", "--labels", "data.npz", "--metric", "r2", "--keep-layer"]) == 2
    )
    capsys.readouterr()
    assert cli.main(["in.onnx", "--dry-run", "--keep", "1", "--labels", "data.npz", "--metric", "r2"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("metric ")]
    assert line.startswith("metric    r2 0.99") and line.endswith("(+0) on 40 samples")


def test_a_callable(samples):
    x, y = samples
    seen = []

    def mine(predict, samples, labels):
        seen.append((set(samples), samples["x"].shape, labels is None, predict.original is predict))
        first = predict({"x": samples["x"][:3]})["y"]
        whole = predict.original(samples)["y"]
        return np.float32(-abs(first - whole[:3]).mean())

    model, result = optimize(network(), keep=0.5, calib=x, metric=mine, **PLAIN)
    assert seen == [({"x"}, (40, 16), True, True), ({"x"}, (40, 16), True, False)]
    both = [Session(m, CPU).run({"x": x[:3]})["y"] for m in (network(), model)]
    assert result.metric.before == 0 and result.metric.after == pytest.approx(-abs(both[0] - both[1]).mean(), rel=1e-5)
    assert result.metric.name == "mine" and result.accuracy is None


def test_labels_may_be_anything_that_has_rows(here, samples):
    x, _ = samples
    words = np.array(["a", "b"] * 20)
    np.savez("words.npz", x=x, y=words)
    _, result = optimize(network(), keep=0.5, labels="words.npz", metric=lambda p, s, y: (y == "a").mean(), **PLAIN)
    assert result.metric.after == 0.5 and result.accuracy is None
    np.savez("few.npz", x=x, y=words[:9])
    with pytest.raises(InputError, match=r"labels must have 40 rows, one for each sample, not shape \(9,\)"):
        optimize(network(), keep=0.5, labels="few.npz", metric=lambda p, s, y: 0.0, **PLAIN)
    for metric in ("accuracy", None):  # which take class numbers only
        with pytest.raises(InputError, match="not <U1: give the number of each name in the order"):
            optimize(network(), keep=0.5, labels="words.npz", metric=metric, **PLAIN)


def test_accuracy_is_measured_beside_it_where_labels_are_classes(here, samples):
    x, _ = samples
    np.savez("classes.npz", x=x, y=np.arange(40) % 4)
    _, result = optimize(network(), keep=0.5, labels="classes.npz", metric="accuracy", **PLAIN)
    assert (result.metric.before, result.metric.after) == (result.accuracy.before, result.accuracy.after)


def test_the_gate(here, samples, counting, capsys):
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--labels", "data.npz", "--metric", "mine.py:error", "--force"]
    arguments += ["--align", "1", "--method", "merge", "-q"]
    assert cli.main([*arguments, "--min-metric=-1e3"]) == 0
    after = error_of(onnx.load("out.onnx"), samples)
    Path("out.onnx").unlink()
    code, said = failure(capsys, *arguments, "--min-metric", "-0.05")
    assert code == 3 and names(here).count("out.onnx") == 0
    assert said == f"mine.py:error is {after:.6g}, below --min-metric -0.05: see out.rejected.onnx"
    code, said = failure(capsys, *arguments, "--min-metric", "-0.05", "--min-cosine", "1")
    assert code == 3 and "below --min-cosine 1 and mine.py:error is" in said
    with pytest.raises(FidelityError, match="below --min-metric 0.5"):
        optimize(network(), keep=0.5, labels="data.npz", metric="r2", min_metric=0.5, **PLAIN)


def test_max_drop_is_in_its_units(here, samples, counting):
    model, result = optimize(network(), max_drop=30, labels="data.npz", metric="mine.py:error", calib="none", align=1)
    assert 0 <= result.metric.before - result.metric.after <= 30 and result.after.macs < result.before.macs
    tried = next(int(note.split()[0]) for note in result.notes if " tried; " in note)
    assert counting() == 1 + tried, "the result's is known from the search"
    [note] = [note for note in result.notes if " tried; " in note]
    assert f"{result.metric.before - result.metric.after:.3g} of mine.py:error is lost on" in note


def test_a_drop_from_infinity_is_refused(samples):
    x, _ = samples
    with pytest.raises(UsageError, match="psnr is inf, from which no drop can be computed: use min-metric"):
        optimize(network(), max_drop=1, calib=x, metric="psnr", **PLAIN)


def test_samples_cannot_be_written_to(samples):
    x, y = samples

    def mine(predict, samples, labels):
        samples["x"] /= 255
        return 1.0

    with pytest.raises(UserCodeError, match="mine failed: ValueError: output array is read-only"):
        optimize(network(), keep=0.5, calib=x, metric=mine, **PLAIN)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return labels['a']", "failed: IndexError"),
        ("pass", "must return a number, not NoneType: is its return missing?"),
        ("return 'good'", "must return a number, not str"),
        ("return True", "must return a number, not bool"),
        ("return samples['x']", "must return a number, not ndarray"),
        ("return float('nan')", "returned NaN, which cannot be compared: return a number"),
        ("yield 1.0", "must return a number, not generator"),
        ("return predict({'z': samples['x'][:, 1:]})", "failed: predict: 'x' must have shape (N, 16), not (40, 15)"),
        ("import sys; sys.exit()", "failed: SystemExit"),
    ],
)
def test_what_is_wrong_with_a_function(here, samples, capsys, body, said):
    (here / "mine.py").write_text(f"def f(predict, samples, labels):\n    {body}\n")
    before = names(here)
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--labels", "data.npz", "--metric", "mine.py:f"]
    code, message = failure(capsys, *arguments)
    assert code == 2 and message.startswith("mine.py:f ") and said in message and names(here) == before


def test_what_is_wrong_with_a_file(here, samples, capsys):
    (here / "mine.py").write_text("def f(predict):\n    return 1.0\n")
    (here / "broken.py").write_text("1 / 0\n")
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--labels", "data.npz", "--metric"]
    for metric, said in (
        ("mine.py:f", "mine.py:f must take what metric(predict, samples, labels) is called with: too many positional"),
        ("mine.py:g", "mine.py has no function 'g'"),
        ("none.py:f", "none.py does not exist: check the name"),
        ("broken.py:f", "broken.py:f failed: ZeroDivisionError: division by zero"),
        ("acuracy", "or FILE.py:FUNCTION, not 'acuracy': did you mean accuracy?"),
    ):
        code, message = failure(capsys, *arguments, metric)
        assert code == 2 and said in message, message


def test_the_traceback_is_shown_to_whoever_asks(here, samples, capsys):
    (here / "mine.py").write_text("def f(predict, samples, labels):\n    return predict.none\n")
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--labels", "data.npz", "--metric", "mine.py:f", "-v"]
    assert cli.main(arguments) == 2
    *trace, last = capsys.readouterr().err.splitlines()
    assert trace[0].startswith("Traceback") and 'mine.py", line 2, in f' in "\n".join(trace)
    assert last.startswith("onnx-merge: error: mine.py:f failed: AttributeError: ")


def test_a_metric_needs_samples(here, capsys):
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--metric"]
    for more in ([], ["--calib", "none"], ["--calib", "auto"]):
        code, said = failure(capsys, *arguments, "r2", *more)
        assert (code, said) == (2, "metric is measured on samples: give --labels or --calib")
    assert failure(capsys, *arguments, "accuracy", "--calib", "synthetic")[1].startswith("metric accuracy needs labels")
    assert failure(capsys, *arguments[:-1], "--min-metric", "1")[1].startswith("min-metric is a limit on metric")


def test_its_file_is_not_overwritten(here, samples, capsys):
    (here / "mine.py").write_text("")
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--labels", "data.npz", "--metric", "mine.py:f"]
    assert failure(capsys, *arguments, "--report", "mine.py", "--force")[0] == 2
    assert (here / "mine.py").read_text() == ""


def test_a_sweep_goes_by_it(here, samples, counting):
    found = sweep("in.onnx", "sizes", start=0.4, stop=0.8, steps=3, labels="data.npz", metric="mine.py:error", **PLAIN)
    assert found.metric == "metric" and counting() == 4
    for point in found.points:
        model = onnx.load(here / "sizes" / point.file.path)
        assert point.metric.after == pytest.approx(error_of(model, samples))
    stored = json.loads((here / "sizes" / "sweep.json").read_text())
    assert stored["metric_name"] == "mine.py:error" and stored["before"]["metric"] == pytest.approx(-0.05)


@pytest.mark.slow
def test_a_function_in_a_file_serves_other_processes(here, samples, counting):
    given = {"start": 0.4, "stop": 0.8, "steps": 2, "labels": "data.npz", "metric": "mine.py:error", **PLAIN}
    one, two = (sweep("in.onnx", f"sizes{jobs}", jobs=jobs, **given) for jobs in (1, 2))
    assert [p.status for p in two.points] == ["done", "done"] and counting() == 6
    assert [p.metric.after for p in two.points] == pytest.approx([p.metric.after for p in one.points])


def test_a_job_that_was_sent_measures_the_same(here, samples, counting, monkeypatch):
    """In another folder, as workers of a cluster are."""
    jobs = []

    class Spy(executors.InProcess):
        def run(self, job, keeps):
            jobs.append(candidates.pack(job))
            return super().run(job, keeps)

    options = Options.make({"keep": 1, "labels": "data.npz", "metric": "mine.py:error", **PLAIN})
    found = sweep_module.run("in.onnx", "out", options, (0.3, 0.6), contextlib.nullcontext(Spy()))
    (here / "other").mkdir()
    monkeypatch.chdir(here / "other")
    for point in found.points:
        result = candidates.run_packed(jobs[0], candidates.Candidate(point.keep))
        assert result.reason is None and result.evaluation.metric == point.metric


def test_what_fails_on_one_size_costs_no_other(here, samples):
    (here / "mine.py").write_text(
        "def f(predict, samples, labels):\n"
        "    error = abs(predict(samples)['y'] - labels).mean()\n"
        "    return -error if error < 20 else {}[0]\n"
    )
    found = sweep("in.onnx", "b", start=0.3, stop=0.9, steps=2, labels="data.npz", metric="mine.py:f", **PLAIN)
    assert [(p.status, p.reason) for p in found.points] == [
        ("failed", "mine.py:f failed: KeyError: 0"),
        ("done", None),
    ]


def test_what_cannot_be_sent_is_refused_before_the_work(here, samples, monkeypatch):
    said = "the metric <lambda> cannot be sent to other processes: put it in a file and give FILE.py:FUNCTION"
    with pytest.raises(UsageError, match=said):
        sweep("in.onnx", "sizes", jobs=2, labels="data.npz", metric=lambda predict, samples, labels: 1.0)
    assert not (here / "sizes").exists()
    script = sys.modules["__main__"]  # which other processes do not run
    monkeypatch.setattr(script, "of_the_script", lambda predict, samples, labels: 1.0, raising=False)
    script.of_the_script.__module__, script.of_the_script.__qualname__ = "__main__", "of_the_script"
    with pytest.raises(UsageError, match="cannot be sent"):
        check_sendable(script.of_the_script)
    for metric in (np.mean, "r2", "mine.py:f", None):
        check_sendable(metric)


def test_a_comparison_that_was_sent_knows_the_originals(here, samples, counting):
    options = Options.make({"keep": 0.5, "labels": "data.npz", "metric": "mine.py:error"})
    sent = pickle.loads(pickle.dumps(comparison_with(network(), options, CPU)))
    assert sent.measure.before == pytest.approx(-0.05) and counting() == 1


def test_names_for_the_report(here):
    class Mine:
        def __call__(self, predict, samples, labels):
            return 1

    assert metric_of("top5").name == "top5" and metric_of("top5").of_classes
    assert metric_of("a/b.py:f").name == "b.py:f" and not metric_of("a/b.py:f").of_classes
    assert metric_of(Mine()).name == "Mine" and metric_of(lambda p, s, y: 1).name == "<lambda>"
    assert UserMetric(Mine())(None, {}, None) == 1.0
    for wrong in ("f1", 3):
        with pytest.raises(UsageError, match="metric must be"):
            metric_of(wrong)
