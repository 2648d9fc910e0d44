"""Promises about the drop on other samples: which size is chosen, what is reported, and what cannot be promised."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.calibration.splits import held_rows
from onnx_merge.cli import main as cli
from onnx_merge.compression import promise_search
from onnx_merge.compression.optimize import optimize
from onnx_merge.config.options import Options
from onnx_merge.errors import NotCompressibleError, OnnxMergeError, UsageError
from onnx_merge.evaluation.drop_bounds import AccuracyLoss, AgreementLoss, MeanLoss, fewest, samples_needed
from onnx_merge.evaluation.paired_losses import Paired
from onnx_merge.original.opened_model import OpenedModel
from onnx_merge.report.table import render
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.evaluation import GUARANTEES, GuaranteeTuning
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.transforms.canonicalize import canonicalize

MODELS = Path(__file__).parents[3] / "models"
DIGITS, LABELS, CALIB = (MODELS / name for name in ("digits_cnn.onnx", "digits_test.npz", "digits_calib.npz"))
PLAIN = dict(method="merge", align=1, gate=False)
"""Without the time that solving and probing take."""


def bounded(metric, bounds):
    metric.bounds = bounds
    return metric


def share_of_macs(model):
    macs = [cost(Graph(canonicalize(m))).macs for m in (onnx.load(DIGITS), model)]
    return macs[1] / macs[0]


def made_up(monkeypatch, loss):
    """Let the share of the multiply-adds that is left decide what is lost."""
    asked, load = [], OpenedModel.load

    def lost(session):
        asked.append(share_of_macs(session.model))
        return loss(asked[-1])

    def loaded(original, model):
        session = load(original, model)
        session.model = model
        return session

    monkeypatch.setattr(promise_search, "paired", lambda comparison: Paired("accuracy", AccuracyLoss(0, 0, 500), lost))
    monkeypatch.setattr(OpenedModel, "load", loaded)
    return asked


def test_the_smallest_size_before_the_first_that_fails(monkeypatch):
    """Below one half, sizes would pass again: they are not looked at."""
    asked = made_up(monkeypatch, lambda share: AccuracyLoss(60 if 0.4 < share < 0.5 else 0, 0, 500))
    _, result = optimize(DIGITS, max_drop=2, confidence=0.95, labels=LABELS, **PLAIN)
    assert asked == sorted(asked, reverse=True) and asked[-1] < 0.5 <= min(asked[:-1])
    assert share_of_macs(onnx.load_from_string(_.SerializeToString())) == asked[-2]
    promise = result.promise
    assert (promise.max_drop, promise.confidence, promise.samples, promise.measure) == (2, 0.95, 500, "accuracy")
    assert promise.sizes_tried == len(asked) and 0 < promise.bound <= 2


def test_all_sizes_may_pass(monkeypatch):
    asked = made_up(monkeypatch, lambda share: AgreementLoss(0, 500))
    _, result = optimize(DIGITS, max_drop=2, confidence=0.95, labels=LABELS, **PLAIN)
    assert result.promise.sizes_tried == len(asked) > 10 and min(asked) < 0.15


def test_no_size_passes(monkeypatch, tmp_path):
    made_up(monkeypatch, lambda share: AccuracyLoss(5, 1, 500))
    with pytest.raises(NotCompressibleError, match=r"0\.8 is lost on 500 held-out .*; some [\d,]+ like them") as caught:
        optimize(DIGITS, tmp_path / "out.onnx", max_drop=1, confidence=0.95, labels=LABELS, **PLAIN)
    assert caught.value.exit_code == 4 and not list(tmp_path.iterdir())
    made_up(monkeypatch, lambda share: AccuracyLoss(50, 1, 500))
    with pytest.raises(NotCompressibleError, match=r"9\.8 is lost .*no number of samples would do"):
        optimize(DIGITS, max_drop=1, confidence=0.95, labels=LABELS, **PLAIN)


def test_labelled_samples_are_divided_for_the_layers_and_for_the_promise(monkeypatch):
    monkeypatch.setattr(promise_search, "GUARANTEES", GuaranteeTuning(sizes=(0.8, 0.6, 0.4)))
    options = dict(calib_samples=64, allocation="uniform", align=1, select="l1", effort="low")
    model, result = optimize(DIGITS, max_drop=5, confidence=0.9, labels=LABELS, **options)
    held, rows = np.load(LABELS), held_rows(500, 436, 0)
    before, after = (Session(m, CPU).run({"input": held["input"][rows]})["logits"] for m in (onnx.load(DIGITS), model))
    right, still = (outputs.argmax(1) == held["labels"][rows] for outputs in (before, after))
    loss = AccuracyLoss(int((right & ~still).sum()), int((still & ~right).sum()), 436)
    assert loss.kept(5, 0.1) and result.promise.bound == loss.bound(5, 0.1 + 1e-12)
    assert (result.promise.samples, result.fidelity.fitted) == (436, 64)
    said = "promise   loses at most 5 points of accuracy with confidence 0.9 on samples like the 436 held out"
    assert said in render(result, io.StringIO())
    assert json.loads(result.to_json())["promise"]["confidence"] == 0.9


def test_agreement_without_labels():
    calib = np.load(LABELS)["input"]
    model, result = optimize(DIGITS, max_drop=4, confidence=0.9, calib=calib, **PLAIN)
    before, after = (Session(m, CPU).run({"input": calib})["logits"].argmax(1) for m in (onnx.load(DIGITS), model))
    loss = AgreementLoss(int((before != after).sum()), 500)
    assert loss.kept(4, 0.1) and result.promise.measure == "agreement" and result.promise.samples == 500
    assert loss.mean <= result.promise.bound <= 4


def test_too_few_samples(tmp_path, capsys):
    arguments = [str(DIGITS), str(tmp_path / "out.onnx"), "--max-drop", "1", "--confidence", "0.95"]
    assert cli.main([*arguments, "--calib", str(CALIB)]) == 4
    said = capsys.readouterr().err
    assert "by 128 held-out samples: 299 without a single change would do" in said and said.count("\n") == 1
    np.save(tmp_path / "one.npy", np.load(CALIB)["input"][:1])
    assert cli.main([*arguments, "--calib", str(tmp_path / "one.npy")]) == 4
    assert "no samples could be held out" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["one.npy"]


def test_outputs_that_are_no_classes():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,6] x) => (float[N,1] y) { h = MatMul(x, w)  y = MatMul(h, v) }"""
    model = onnx.parser.parse_model(text)
    for name, shape in (("w", (6, 20)), ("v", (20, 1))):
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    calib = np.random.default_rng(1).standard_normal((400, 6)).astype(np.float32)
    with pytest.raises(UsageError, match="confidence needs a model with one output of class scores"):
        optimize(model, max_drop=1, confidence=0.9, calib=calib, **PLAIN)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confidence": 0.95, "keep": 0.5}, "give max-drop too"),
        ({"confidence": 1.0, "max_drop": 1, "labels": "x.npz"}, "above 0 and below 1, not 1"),
        ({"confidence": 0.0, "max_drop": 1, "labels": "x.npz"}, "above 0 and below 1, not 0"),
        ({"confidence": float("nan"), "max_drop": 1, "labels": "x.npz"}, "above 0 and below 1"),
        ({"confidence": 0.9, "max_drop": 0, "labels": "x.npz"}, "no number of samples"),
        ({"confidence": 0.9, "max_drop": 1}, "give calib or labels"),
        ({"confidence": 0.9, "max_drop": 1, "calib": "synthetic"}, "give calib or labels"),
        ({"confidence": "high", "max_drop": 1}, "must be a number"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UsageError, match=said) as caught:
        Options.make(options)
    assert caught.value.exit_code == 2


def test_another_amount_on_the_command_line_takes_the_files_promise_away(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('max-drop = 1\nconfidence = 0.95\nlabels = "x.npz"\n')
    assert Options.from_toml(path).confidence == 0.95
    assert Options.from_toml(path, {"max_drop": 2}).confidence == 0.95
    assert Options.from_toml(path, {"keep": 0.5}).confidence is None


def test_how_many_samples_it_takes():
    for nothing in (AccuracyLoss(0, 0, 9), AgreementLoss(0, 9)):
        assert fewest(nothing, 1, 0.05) == 299
        assert fewest(nothing, 5, 0.1) == 45 and fewest(nothing, 100, 0.05) == 1
    assert fewest(MeanLoss(np.zeros(9), 1.0), 0.01, 0.05) >= 299
    found = samples_needed(AgreementLoss(4, 500), 1.5, 0.05)
    assert AgreementLoss(round(0.008 * found * 1.2), round(found * 1.2)).kept(1.5, 0.05)
    assert samples_needed(AgreementLoss(5, 500), 1, 0.05) is None


def likely(predict, samples, labels):
    """The probability of the label: the mean over samples."""
    scores = predict(samples)["logits"].astype(np.float64)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return float((odds / odds.sum(1, keepdims=True))[np.arange(len(labels)), labels].mean())


likely.bounds = (0, 1)


def test_a_metric_with_bounds():
    model, result = optimize(
        DIGITS, max_drop=0.05, confidence=0.9, labels=LABELS, metric=likely, allocation="uniform", **PLAIN
    )
    promise = result.promise
    assert (promise.measure, promise.samples) == ("likely", 500) and 0 < promise.bound <= 0.05
    assert result.metric.before - result.metric.after < promise.bound
    assert "loses at most 0.05 of likely with confidence 0.9" in render(result, io.StringIO())


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("neg-cross-entropy", "needs a metric with bounds"),
        (lambda predict, samples, labels: 0.5, "needs a metric with bounds"),
        (bounded(lambda predict, samples, labels: 2.0, (0, 1)), "gave 2 to 2, beyond its bounds 0 and 1"),
        (bounded(lambda predict, samples, labels: 1 / len(labels), (0, 1)), "a metric that is a mean over samples: "),
        (bounded(lambda predict, samples, labels: 0.5, "wide"), "must be two numbers, the lower first, not 'wide'"),
        (bounded(lambda predict, samples, labels: 0.5, (1, 0)), "must be two numbers"),
    ],
)
def test_a_metric_of_which_nothing_can_be_promised(metric, said):
    with pytest.raises(OnnxMergeError, match=said) as caught:
        optimize(DIGITS, max_drop=0.1, confidence=0.9, labels=LABELS, metric=metric, **PLAIN)
    assert caught.value.exit_code == 2


def test_the_metric_of_accuracy_has_the_exact_test():
    _, result = optimize(DIGITS, max_drop=3, confidence=0.9, labels=LABELS, metric="accuracy", **PLAIN)
    assert result.promise.measure == "accuracy" and result.metric.before - result.metric.after < 3


def test_a_mean():
    falls = np.random.default_rng(0).normal(0.001, 0.03, 2000).clip(-1, 1)
    loss = MeanLoss(falls, 1.0)
    assert loss.kept(0.01, 0.05) and not loss.kept(0.001, 0.05)
    assert loss.mean < loss.bound(0.01, 0.05) < 0.01 and loss.kept(loss.bound(0.01, 0.05), 0.05)
    assert loss.variance == pytest.approx(0.0009, rel=0.1) and loss.samples == 2000


def test_sizes_fall():
    assert (
        list(GUARANTEES.sizes) == sorted(GUARANTEES.sizes, reverse=True)
        and GUARANTEES.sizes[0] < 1
        and GUARANTEES.sizes[-1] > 0
    )
