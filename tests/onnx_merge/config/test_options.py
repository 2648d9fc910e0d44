"""Every option is checked, whether it comes from Python, a command line or a file; the command line wins."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from onnx_merge.config.options import BUDGETS, OPTION_NAMES, Options
from onnx_merge.errors import InputError, UsageError


def refused(**values):
    with pytest.raises(UsageError) as caught:
        Options.make(values)
    message = str(caught.value)
    assert "\n" not in message
    return message


def amount(name, ratio=0.5):
    """A value of an option that says how much goes."""
    return "plan.json" if name == "plan" else ratio


def toml(tmp_path, text):
    path = tmp_path / "options.toml"
    path.write_text(text)
    return path


def test_defaults_are_valid_and_ask_for_nothing():
    options = Options()
    assert options.amount == 1.0 and not options.asks_for_change and not options.has_gate
    assert Options.make({}) == options


@pytest.mark.parametrize("keep", [0, -1, 2, math.nan, math.inf, -math.inf, 1.0000001])
def test_keep_must_be_a_share(keep):
    assert "keep must be above 0 and at most 1" in refused(keep=keep)
    assert "share of keep-layer 'a' must be above 0" in refused(keep_layer={"a": keep})


@pytest.mark.parametrize("keep", ["0.5", True, [0.5]])
def test_keep_must_be_a_number(keep):
    assert "keep must be a number" in refused(keep=keep)


@pytest.mark.parametrize("keep", [1, 0.5, 1e-9, np.float32(0.5)])
def test_shares_are_accepted(keep):
    assert Options.make({"keep": keep}).keep == float(keep)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lambda", 1.5),
        ("lambda", math.nan),
        ("threshold", -2.0),
        ("min-cosine", 1.01),
        ("min-top1", 98.0),
        ("seed", -1),
        ("check-n", 0),
    ],
)
def test_ranges(name, value):
    message = refused(**{name: value})
    assert message.startswith(f"{name} must be") and f"{value:g}" in message


@pytest.mark.parametrize("name", ["seed", "check_n"])
def test_whole_numbers(name):
    assert "whole number" in refused(**{name: 1.5})
    assert "whole number" in refused(**{name: True})
    assert getattr(Options.make({name: np.int64(3)}), name) == 3


@pytest.mark.parametrize("name", ["method", "select", "allocation", "provider"])
def test_choices(name):
    assert f"{name} must be one of" in refused(**{name: "best"})
    assert "must be a text" in refused(**{name: 1})


def test_regular_expressions():
    assert "'a(' is not a regular expression" in refused(exclude="a(")
    assert "'a(' is not a regular expression" in refused(exclude_inputs="a(")
    assert "'a(' is not a regular expression" in refused(keep=0.5, keep_layer={"a(": 0.5})
    assert Options.make({"exclude": "a"}).exclude == ("a",)
    assert Options.make({"exclude": ["a", "b"]}).exclude == ("a", "b")
    assert "must be a text" in refused(exclude=[1])


def test_shares_of_layers_are_split_at_the_last_equals_sign():
    expected = (("(?=x)a=b", 0.5), ("c", 1.0))
    assert Options.make({"keep_layer": ["(?=x)a=b=0.5", "c=1"]}).keep_layer == expected
    assert Options.make({"keep_layer": {"(?=x)a=b": 0.5, "c": 1}}).keep_layer == expected
    assert Options.make({"keep_layer": expected}).keep_layer == expected
    for wrong in ("a", "=0.5", "a=", "a=half"):
        assert "must be REGEX=RATIO" in refused(keep_layer=wrong)
    assert "must be a number" in refused(keep_layer={"a": "b"})


def test_input_shapes_are_split_at_the_last_colon():
    expected = (("a:0", (1, 3, 8, 8)),)
    assert Options.make({"input-shape": ["a:0:1,3,8,8"]}).input_shape == expected
    assert Options.make({"input_shape": {"a:0": [1, 3, 8, 8]}}).input_shape == expected
    for wrong in ("a", ":1,2", "a:", "a:1,x"):
        assert "must be NAME:SIZES" in refused(input_shape=wrong)
    assert "must be positive sizes" in refused(input_shape="a:0,3")


def test_contradictions():
    assert "either it or keep" in refused(lossless=True, keep=0.5)
    assert "either it or keep" in refused(lossless=True, keep_layer={"a": 0.5})
    assert "contradict" in refused(quiet=True, verbose=True)


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations(BUDGETS, 2)))
def test_only_one_budget(one, two, tmp_path):
    message = refused(**{one: amount(one), two: amount(two)})
    assert message == f"{one} and {two} both say how much goes: give one of them".replace("_", "-")
    path = toml(tmp_path, f"{one} = {amount(one)!r}\n")
    options = Options.from_toml(path, {two: amount(two, 0.25)})
    assert getattr(options, one) is None and getattr(options, two) in (0.25, Path("plan.json"))
    with pytest.raises(UsageError, match="both say how much goes"):
        Options.from_toml(toml(tmp_path, f"{one} = {amount(one)!r}\n{two} = {amount(two)!r}\n"))


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_asks_for_change(name):
    options = Options.make({name: amount(name)})
    assert options.says_how_much and options.loses and options.reconstructs and options.asks_for_change
    assert refused(lossless=True, **{name: amount(name)}).endswith(f"give either it or {name.replace('_', '-')}")


def test_a_budget_of_everything_does_not():
    for name in ("keep", "target_macs", "target_params", "target_latency"):
        options = Options.make({name: 1})
        assert options.says_how_much and not options.loses and not options.asks_for_change
    assert Options.make({"max_drop": 0}).loses, "what costs no accuracy may go"


@pytest.mark.parametrize("name", ["target_macs", "target_params", "target_latency"])
@pytest.mark.parametrize("value", [0, -1, 1.01, math.nan, math.inf])
def test_targets_are_shares(name, value):
    label = name.replace("_", "-")
    assert refused(**{name: value}) == f"{label} must be above 0 and at most 1, not {value:g}; 0.5 leaves half"
    assert f"{label} must be a number" in refused(**{name: "0.5"})


@pytest.mark.parametrize("value", [-0.1, 100.5, math.nan])
def test_a_drop_is_in_points(value):
    assert refused(max_drop=value).startswith(f"max-drop must be from 0 to 100, not {value:g}; 1 is one point")


def test_alignment():
    for value, meant in (("auto", "auto"), ("8", 8), (8, 8), (1, 1), (None, None), (np.int64(4), 4)):
        assert Options.make({"align": value}).align == meant
    assert refused(align=0) == refused(align="0") == "align must be at least 1 channel, not 0"
    for value in ("best", "-8", "", 1.5, True, "8.0"):
        assert refused(align=value).startswith("align must be auto or a whole number of channels")


def test_metrics():
    assert Options.make({"metric": "r2"}).metric_file is None and Options.make({"metric": print}).metric is print
    assert str(Options.make({"metric": "a/b.py:f", "min_metric": 0}).metric_file) == "a/b.py"
    assert Options.make({"metric": "r2", "min_metric": 0.5}).has_gate and not Options.make({"metric": "r2"}).has_gate
    assert refused(metric="acuracy") == (
        "metric must be accuracy, top5, neg-cross-entropy, psnr, r2 or FILE.py:FUNCTION, not 'acuracy': did you mean "
        "accuracy?"
    )
    assert refused(metric="mine.py") == "metric must name a function too: mine.py:FUNCTION"
    assert "metric must be accuracy, top5" in refused(metric="mine.py:1") and "not ''" in refused(metric="")
    assert refused(metric=3) == "metric must be a function or a name, not 3"
    assert refused(min_metric=0.5).startswith("min-metric is a limit on metric: give that too, such as accuracy or")
    assert refused(metric="r2", min_metric=math.nan) == "min-metric must be a number, not nan"


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_drop_of_a_metric_is_in_its_units(value):
    assert Options.make({"metric": "psnr", "max_drop": 250}).max_drop == 250
    assert (
        refused(metric="psnr", max_drop=value) == f"max-drop must be at least 0, in the units of metric, not {value:g}"
    )


def test_names_have_dashes_or_underscores():
    assert Options.make({"check-n": 3}) == Options.make({"check_n": 3})
    assert Options.make({"lambda": 0.5}) == Options.make({"lambda_": 0.5})
    assert Options.make({"no-coupled": True}) == Options.make({"coupled": False})
    assert "is given twice" in refused(**{"check-n": 3, "check_n": 4})


def test_unknown_names_are_refused_with_what_was_meant():
    assert refused(kep=0.5) == "unknown option 'kep': did you mean keep?"
    assert refused(min_cosin=0.5) == "unknown option 'min_cosin': did you mean min_cosine?", "a name of Python's"
    assert refused(**{"min-cosin": 0.5}) == "unknown option 'min-cosin': did you mean min-cosine?"
    assert refused(banana=1) == "unknown option 'banana'"


def test_flags_and_paths():
    assert "must be true or false" in refused(lossless=1)
    assert "name of a file" in refused(labels=3)
    assert "name of a file" in refused(report="")


def test_every_option_can_stand_in_a_file(tmp_path):
    path = toml(
        tmp_path,
        """
        keep = 0.5
        method = "prune"
        select = "gm"
        allocation = "uniform"
        effort = "high"
        align = 8
        exclude-inputs = "c"
        lambda = 0.7
        threshold = 0
        no-coupled = true
        no-provenance = true
        exclude = ["a", "b"]
        input-shape = ["x:1,3"]
        fix-input = "rate=16000"
        provider = "cpu"
        custom-ops = ["ops.so"]
        unverified = true
        seed = 3
        labels = "l.npz"
        calib = "c.npz"
        calib-samples = 32
        mean = [0.5, 0.4, 0.3]
        std = "0.2,0.2,0.2"
        layout = "nhwc"
        memory-limit = "500MB"
        check-n = 5
        benchmark = [1, 8]
        threads = 2
        min_cosine = 0.9
        fix-shape = ["x:1,3"]
        min-top1 = 1
        metric = "mine.py:f1"
        min-metric = -2
        max-nsr = 0.1
        max_kl = 0.2
        no-gate = true
        then = "int8"
        report = "r.json"
        html = "p.html"
        html-samples = true
        save-plan = "p.json"
        save-as-external-data = true
        dry-run = true
        force = true
        quiet = true
        verbose = false
        lossless = false
        [keep-layer]
        "a=b" = 0.25
        """,
    )
    options = Options.from_toml(path)
    lines = path.read_text().split("\n")
    given = {line.split("=")[0].strip(' "[]').replace("_", "-") for line in lines if line.strip()}
    others = {name.replace("_", "-") for name in (*BUDGETS, "confidence", "input_range") if name != "keep"}
    # these contradict keep, or mean and std
    assert given - {"a", "no-coupled", "no-gate", "no-provenance"} == set(OPTION_NAMES) - {
        *("coupled", "gate", "provenance", *others)
    }
    assert options.max_nsr == 0.1 and options.max_kl == 0.2 and not options.gate
    assert not options.provenance
    assert options.keep == 0.5 and options.lambda_ == 0.7 and options.threshold == 0 and not options.coupled
    assert options.exclude == ("a", "b") and options.input_shape == (("x", (1, 3)),)
    assert options.fix_input == (("rate", "16000"),)
    assert options.keep_layer == (("a=b", 0.25),) and options.min_top1 == 1.0
    assert options.metric == "mine.py:f1" and options.min_metric == -2.0


def test_the_command_line_wins_over_the_file(tmp_path):
    path = toml(tmp_path, 'keep = 0.5\nexclude = ["a"]\nseed = 3\n')
    options = Options.from_toml(path, {"keep": 0.9, "exclude": ["b"]})
    assert options.keep == 0.9 and options.exclude == ("b",) and options.seed == 3


def test_the_command_line_may_ask_for_another_kind_of_amount(tmp_path):
    path = toml(tmp_path, "keep = 0.5\n[keep-layer]\na = 0.5\n")
    assert Options.from_toml(path, {"lossless": True}) == Options(lossless=True)
    path = toml(tmp_path, "lossless = true\n")
    for name in BUDGETS:
        assert Options.from_toml(path, {name: amount(name)}) == Options.make({name: amount(name)})
    path = toml(tmp_path, "target-macs = 0.5\n[keep-layer]\na = 0.5\n")
    assert Options.from_toml(path, {"max-drop": 1}) == Options(max_drop=1.0, keep_layer=(("a", 0.5),))
    assert Options.from_toml(path, {"keep_layer": {"b": 0.5}}) == Options(target_macs=0.5, keep_layer=(("b", 0.5),))
    assert Options.from_toml(path, {"lossless": True}) == Options(lossless=True)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Options.from_toml(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        Options.from_toml(tmp_path)
    with pytest.raises(UsageError, match="is not a TOML file"):
        Options.from_toml(toml(tmp_path, "keep = "))
    with pytest.raises(UsageError, match=r"options.toml: unknown option 'kep': did you mean keep\?"):
        Options.from_toml(toml(tmp_path, "kep = 0.5"))
    with pytest.raises(UsageError, match=r"options.toml: keep must be a number, not '0.5'"):
        Options.from_toml(toml(tmp_path, 'keep = "0.5"'))
    with pytest.raises(UsageError, match="must be true or false"):
        Options.from_toml(toml(tmp_path, "no-coupled = 1"))
    (tmp_path / "latin.toml").write_bytes(b'exclude = "\xe9"')
    with pytest.raises(UsageError, match="is not a TOML file"):
        Options.from_toml(tmp_path / "latin.toml")


def test_reconstruction_needs_samples():
    assert "needs samples" in refused(method="reconstruct", calib="none")


def test_a_drop_needs_samples():
    assert refused(max_drop=1, calib="none") == "max-drop is measured on samples: leave out calib none, or give labels"
    assert Options.make({"max_drop": 1, "calib": "none", "labels": "l.npz"}).calib == "none"
