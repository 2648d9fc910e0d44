"""Limits that a result is held to."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnx_merge import optimize
from onnx_merge.cli import main as cli
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError
from onnx_merge.evaluation.gates import gate
from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity
from onnx_merge.runtime.session import Session

CLASSES = OutputFidelity("y", 0.3, 0.1, 0.2, 0.1, 0.4, likely=(0.12, 0.3))
BAD = Fidelity(0.9, 0.1, 0.8, 32, "calib c.npz", "cpu", (CLASSES,))
FINE = replace(BAD, outputs=(OutputFidelity("y", 0.001),), top1_agreement=None)
UNKNOWN = replace(FINE, outputs=(OutputFidelity("y", tested=False, reason="one sample shows no spread"),))


@pytest.mark.parametrize(
    ("close", "options", "message"),
    [
        (BAD, {}, "were: 20.0% change class, limit 10%; --effort high may mend it, --no-gate writes"),
        (BAD, {"effort": "low"}, "limit 10%; --effort medium may mend it, --no-gate writes"),
        (
            BAD,
            {"effort": "high"},
            "the outputs are not what they were: 20.0% change class, limit 10%; --no-gate writes",
        ),
        (
            BAD,
            {"method": "merge"},
            "the outputs are not what they were: 20.0% change class, limit 10%; --no-gate writes",
        ),
        (BAD, {"gate": False}, None),
        (BAD, {"max_drop": 25}, None),  # says itself how bad it may be
        (replace(BAD, real=False), {}, None),
        (FINE, {}, None),
        (None, {"max_nsr": 0}, None),
        (FINE, {"max_nsr": 0.001}, None),
        (FINE, {"max_nsr": 0.0009}, "noise over signal is 0.001, above --max-nsr 0.0009"),
        (
            UNKNOWN,
            {"max_nsr": 0.1},
            "noise over signal cannot be compared with --max-nsr 0.1: one sample shows no spread",
        ),
        (BAD, {"max_kl": 0.1, "gate": False}, None),
        (BAD, {"max_kl": 0.05, "gate": False}, "the KL divergence of the outputs is 0.1, above --max-kl 0.05"),
        (BAD, {"min_top1": 0.9, "gate": False}, "the top class stays the same for a share of 0.8000, below"),
        (BAD, {"min_cosine": 0.95, "max_nsr": 0.1}, "--min-cosine 0.95 and noise over signal is 0.3, above"),
    ],
)
def test_limits(close, options, message):
    found = gate(close, Options(keep=0.5, **options) if "max_drop" not in options else Options(**options))
    assert found is None if message is None else message in found.message


@pytest.mark.parametrize("options", [{"min_top1": 0.5}, {"max_kl": 0.1}])
def test_limits_on_classes_need_some(options):
    with pytest.raises(UsageError, match="use --max-nsr instead"):
        gate(FINE, Options(keep=0.5, **options))


def report():
    with open("r.json", encoding="utf-8") as file:
        return json.load(file)["fidelity"]


ARGUMENTS = ["in.onnx", "out.onnx", "--keep", "0.2", "--method", "prune", "--report", "r.json"]


def test_bad_on_the_users_own_samples(here, capsys):
    np.savez("own.npz", x=np.random.default_rng(1).standard_normal((64, 16), np.float32))
    assert cli.main([*ARGUMENTS, "--calib", "own.npz"]) == 3
    shown, err = capsys.readouterr()
    assert not (here / "out.onnx").exists() and (here / "out.rejected.onnx").exists()
    assert "change class, limit 10%; --no-gate writes the model all the same: see out.rejected.onnx" in err
    assert shown.splitlines()[-1].startswith("verdict   bad: ") and report()["verdict"] == "bad" and report()["real"]
    assert cli.main([*ARGUMENTS, "--calib", "own.npz", "--no-gate", "--force"]) == 0 and (here / "out.onnx").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict   bad: ")


def test_labels_show_a_loss_where_outputs_are_not_tested(here, capsys):
    """One sample has no spread, but its class is known."""
    made = optimize("in.onnx", keep=0.2, method="prune", gate=False)[0]
    x = np.random.default_rng(1).standard_normal((64, 16), np.float32)
    before, after = (Session(model).run({"x": x})["y"].argmax(1) for model in (onnx.load("in.onnx"), made))
    k = int(np.argmax(before != after))
    np.savez("one.npz", x=np.repeat(x[[k]], 100, 0), y=np.repeat(before[k], 100))
    assert cli.main([*ARGUMENTS, "--labels", "one.npz"]) == 3
    shown, err = capsys.readouterr()
    assert shown.splitlines()[-1] == "verdict   bad: accuracy falls by 100.0 points, limit 10"
    assert "accuracy falls by 100.0 points, limit 10; --no-gate writes" in err and report()["verdict"] == "bad"


def test_bad_on_made_up_samples_is_said(here, capsys):
    assert cli.main(ARGUMENTS) == 0 and (here / "out.onnx").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict   bad: ")
    assert report()["verdict"] == "bad" and not report()["real"]
    assert cli.main([*ARGUMENTS, "--force", "--max-nsr", "0.1"]) == 3
    assert "above --max-nsr 0.1" in capsys.readouterr().err


def test_what_loses_nothing_is_good_on_any_samples(here, capsys):
    assert cli.main(["in.onnx", "out.onnx", "--keep", "1", "--report", "r.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verdict   good: the result computes what the original does"
