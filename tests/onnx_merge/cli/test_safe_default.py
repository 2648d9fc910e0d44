"""Without an option that says how much goes, the tool does what is safe, and says what it did."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from smallnet import names, network

from onnx_merge import optimize
from onnx_merge.cli.main import main
from onnx_merge.config.options import Options
from onnx_merge.errors import NotCompressibleError

MODELS = Path(__file__).parents[3] / "models"


def spare():
    """A network with a channel that is never above zero."""
    model = network()
    tensors = {t.name: t for t in model.graph.initializer}
    weight, bias = (onnx.numpy_helper.to_array(tensors[name]).copy() for name in ("w1", "b1"))
    weight[3], bias[3] = 0, -1
    for name, array in (("w1", weight), ("b1", bias)):
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    return model


def samples(count=400):
    x = np.random.default_rng(0).standard_normal((count, 16), np.float32)
    return {"x": x}


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "lossless"),
        ({"calib": "synthetic"}, "lossless"),
        ({"calib": "none"}, "lossless"),
        ({"calib": samples()}, "max-drop 1"),
        ({"labels": "test.npz"}, "max-drop 1"),
        ({"keep": 1.0}, ""),
        ({"keep_layer": {"first": 0.5}}, ""),
        ({"lossless": True, "calib": samples()}, ""),
    ],
    ids=str,
)
def test_what_is_taken(given, chosen):
    options, taken = Options.make(given).decided()
    assert taken == chosen and options.says_how_much
    assert options.lossless == (chosen == "lossless" or bool(given.get("lossless")))
    assert options.max_drop == (1.0 if chosen == "max-drop 1" else None)


def test_without_samples_only_what_costs_nothing_goes(here, capsys):
    onnx.save(spare(), "in.onnx")
    assert main(["in.onnx", "out.onnx", "--report", "r.json"]) == 0
    assert "\namount    --lossless, since none was given: what costs nothing goes\n" in capsys.readouterr().out
    report = json.loads((here / "r.json").read_text())
    assert report["chosen"] == "lossless" and report["groups"][0]["kept"] == 31
    assert onnx.load("out.onnx") == optimize("in.onnx", lossless=True)[0]
    assert main(["in.onnx", "again.onnx", "--lossless", "--report", "s.json"]) == 0
    assert json.loads((here / "s.json").read_text())["chosen"] is None and "amount " not in capsys.readouterr().out


def test_a_default_is_nobodys_word_for_a_bad_result(here, capsys):
    """Labels of one class allow to remove all that tells it from others."""
    given = np.load(MODELS / "digits_test.npz")
    three = given["labels"] == 3
    np.savez("three.npz", input=given["input"][three], labels=given["labels"][three])
    arguments = [str(MODELS / "digits_mlp.onnx"), "out.onnx", "--labels", "three.npz", "--effort", "low"]
    assert main(arguments) == 3
    assert "verdict   bad" in capsys.readouterr().out and "out.onnx" not in names(here)
    assert main([*arguments, "--max-drop", "1"]) == 0
    assert "verdict   bad" in capsys.readouterr().out and "out.onnx" in names(here)


def test_with_samples_a_point_may_be_lost():
    result = optimize(spare(), calib=samples(), calib_samples=100)[1]
    assert result.chosen == "max-drop 1" and result.after.macs < result.before.macs
    assert any("points are lost on the 100 samples that were held out" in note for note in result.notes)


def test_where_nothing_is_free_the_remedy_is_said(here, capsys):
    assert main(["in.onnx", "out.onnx"]) == 4
    said = capsys.readouterr().err
    assert "--lossless was tried, since no amount was given: no channel is free" in said
    assert "use --keep 0.9" in said and said.endswith("; or give samples with --calib\n")
    assert names(here) == ["in.onnx"]
    with pytest.raises(NotCompressibleError, match="^no channel is free"):
        optimize("in.onnx", lossless=True)
