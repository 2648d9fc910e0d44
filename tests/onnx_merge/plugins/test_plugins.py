"""Rules and passes of installed packages and of calls take part, are named, and their faults are one line."""

import importlib.metadata
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from plugkit import AT_LEAST, MODEL, RULE, install, network

from onnx_merge import inspect_model, optimize, register_pass, register_rule, sweep
from onnx_merge.cli import main as cli
from onnx_merge.errors import UsageError, UserCodeError
from onnx_merge.plugins import entry_points, record
from onnx_merge.runtime.session import Session
from passes.axes import registry
from passes.axes.op_facts import OpFacts
from passes.axes.rules.elementwise import same_axes
from passes.compress import custom_passes
from passes.gradients.differentiate import gradient_model
from passes.gradients.errors import NoGradientError
from passes.graph.model import Graph
from passes.interface.model_pass import PassResult

RULES_OF = "[onnx_merge.rules]\nsample = {}\n".format
PASSES_OF = "[onnx_merge.passes]\nat_least = {}\n".format


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is forgotten, and what it installs is found."""
    for table in ("_RULES", "_FACTS", "_GRADIENTS"):
        registry.rules()
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    monkeypatch.setattr(custom_passes, "_CUSTOM", [])
    monkeypatch.setattr(record, "_registered", [])
    monkeypatch.setattr(entry_points, "_loaded", set())
    monkeypatch.setattr(entry_points, "_failed", {})
    monkeypatch.setattr(entry_points, "entry_points", importlib.metadata.entry_points)


@pytest.fixture
def folder(tmp_path, monkeypatch, forgets_modules):
    """Where `packages` are found, and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    onnx.save(network(), "in.onnx")
    return tmp_path


def both(folder):
    install(folder / "packages", "acme_ops", RULE, RULES_OF("acme_ops"))
    install(folder / "packages", "acme_widths", AT_LEAST, PASSES_OF("acme_widths:register"))


def width(path):
    return next(list(w.dims) for w in onnx.load(path).graph.initializer if len(w.dims) == 2)[0]


RUN = ["in.onnx", "out.onnx", "--keep", "0.5", "--align", "1", "--no-gate"]


def test_without_plugins_the_op_has_no_rule(folder, capsys):
    assert cli.main([*RUN]) == 4
    assert "act (SampleOp) has no axis rule" in capsys.readouterr().err


def test_an_installed_rule_and_an_installed_pass_take_part(folder, capsys):
    both(folder)
    assert cli.main([*RUN, "-v", "--report", "r.json"]) == 0
    out = capsys.readouterr().out
    named = "acme_ops 1.2: rule com.microsoft:SampleOp; acme_widths 1.2: pass at least"
    assert f"plug-ins  {named}" in out and "note: narrow groups stay" in out
    assert width("out.onnx") == 20, "half were 16"
    assert json.loads((folder / "r.json").read_text())["environment"]["plugins"] == named
    assert cli.main(["inspect", "in.onnx", "-v"]) == 0
    assert f"plug-ins: {named}" in capsys.readouterr().out


def test_a_fresh_process_finds_them_too(folder):
    """Also worker processes of a sweep."""
    both(folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "packages"), *filter(None, sys.path)])}
    words = ["sweep", "in.onnx", "-o", "sizes", "--from", "0.3", "--to", "0.9", "--steps", "2", "--jobs", "2"]
    command = [sys.executable, "-m", "onnx_merge", *words, "--align", "1", "--method", "merge"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plug-ins: acme_ops 1.2" in done.stdout
    assert width("sizes/keep-0.30.onnx") == 20 and width("sizes/keep-0.90.onnx") > 20


def test_registered_by_calls(folder):
    scope = {"__name__": "mine"}
    exec(RULE + AT_LEAST, scope)
    scope["register"]()
    model, result = optimize("in.onnx", keep=0.5, align=1, gate=False)
    assert result.groups[0].kept == 20
    expected = "registered by a call: rule com.microsoft:SampleOp, pass at least"
    assert result.environment["plugins"] == inspect_model("in.onnx").environment["plugins"] == expected
    with pytest.raises(UsageError, match="unknown to other processes: give the package an entry point"):
        sweep("in.onnx", "sizes", steps=2, jobs=2)


def test_where_only_redundant_channels_go_a_pass_behind_plan_runs(folder):
    seen = []

    class Watch:
        name, requires = "watch", ()

        def run(self, model):
            seen.append(sorted(kind.__name__ for kind in model.facts))
            return PassResult(model)

    register_pass(Watch(), after="plan")
    model = network()
    model.graph.node[1].CopyFrom(onnx.helper.make_node("Relu", ["a"], ["b"], name="act"))
    dead = np.repeat(np.array([-1000, 0], np.float32), 16)
    weights = np.zeros((32, 16), np.float32)
    weights[16:] = onnx.numpy_helper.to_array(model.graph.initializer[0])[16:]
    for k, array in enumerate((weights, dead)):
        model.graph.initializer[k].CopyFrom(onnx.numpy_helper.from_array(array, model.graph.initializer[k].name))
    _, result = optimize(model, lossless=True)
    assert result.groups[0].kept < 32 and "Planned" in seen[0] and "Allocation" not in seen[0]


@pytest.mark.parametrize(
    ("code", "entry", "said"),
    [
        ("import nowhere_to_be_found\n", "acme_ops", "cannot be loaded: ModuleNotFoundError"),
        (RULE, "acme_ops:missing", "cannot be loaded: AttributeError"),
        ("1 / 0\n", "acme_ops", "cannot be loaded: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "acme_ops", "cannot be loaded: SystemExit: 3"),
        ("thing = 3\n", "acme_ops:thing", "acme_ops:thing is neither a module nor a function"),
        ("", "acme_ops", "registers nothing: it has to call onnx_merge.register_rule"),
        (RULE.replace("SampleOp", "Relu").replace("com.microsoft", ""), "acme_ops", "Relu has two rules"),
        (
            "from onnx_merge import register_pass\nregister_pass(3, after='plan')\n",
            "acme_ops",
            "an object of type int is no pass",
        ),
        (AT_LEAST + "register_pass(AtLeast, after='plan')\n", "acme_ops", "the class AtLeast is no pass"),
        (
            AT_LEAST + "register_pass(AtLeast(1), after='later')\n",
            "acme_ops",
            "no pass can follow 'later': choose infer, observe",
        ),
        (AT_LEAST + "register()\nregister()\n", "acme_ops", "there are two passes 'at least'"),
    ],
)
def test_a_broken_plugin_is_one_line(folder, capsys, code, entry, said):
    install(folder / "packages", "acme_ops", code, RULES_OF(entry))
    rules = len(registry.rules())
    for _ in range(2):  # what failed half-way is not half there
        assert cli.main([*RUN]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error
        assert "plug-in 'sample' of acme_ops 1.2 (onnx_merge.rules)" in error and "uninstall acme_ops" in error
        assert not (folder / "out.onnx").exists() and len(registry.rules()) == rules
    assert cli.main(["inspect", "in.onnx"]) == 2


STEP = """
from onnx_merge import register_pass
from passes.interface.model_pass import PassResult
from passes.interface.errors import PassError
class Step:
    name, requires = "step", ()
    def run(self, model):
        {body}
register_pass(Step(), after="{after}")
"""


@pytest.mark.parametrize(
    ("body", "after", "said"),
    [
        ("raise OSError('disk')", "plan", "pass 'step' (acme_ops 1.2) failed: OSError: disk"),
        ("raise PassError('too narrow')", "plan", "pass 'step' (acme_ops 1.2): too narrow"),
        ("return model", "plan", "run returned WorkingModel, not PassResult"),
        (
            "model.proto.graph.output[0].name = 'lost'; return PassResult(model, changed=True)",
            "shrink",
            "pass 'step' (acme_ops 1.2): pass 'step' made an invalid graph",
        ),
    ],
)
def test_a_pass_that_fails_is_named(folder, capsys, body, after, said):
    install(folder / "packages", "acme_ops", RULE + STEP.format(body=body, after=after), RULES_OF("acme_ops"))
    assert cli.main(RUN) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_a_rule_that_fails_is_named(folder, capsys):
    install(folder / "packages", "acme_ops", RULE.replace("same_axes(op)", "op.nonsense()"), RULES_OF("acme_ops"))
    assert cli.main(RUN) == 2
    said = "the rule of act (SampleOp) (acme_ops 1.2) failed: AttributeError"
    assert said in capsys.readouterr().err


def test_a_rule_may_refuse(folder):
    refusing = "from passes.interface.errors import Refusal\n" + RULE.replace(
        "    same_axes(op)", "    raise Refusal('has no scale')"
    )
    install(folder / "packages", "acme_ops", refusing, RULES_OF("acme_ops"))
    assert str(inspect_model("in.onnx").groups[0].reason) == "act (SampleOp) has no scale"


def gradient_of_w1():
    """The gradient of <s, y> with respect to the first weights, for random x and s, and that by the chain rule: the op
    returns its input."""
    model, rng = network(), np.random.default_rng(1)
    x, s = rng.standard_normal((5, 16), np.float32), rng.standard_normal((5, 4), np.float32)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    made = gradient_model(Graph(model, [{"x": x.shape}]), ["w1"], seeded=["y"])
    found = Session(made.model).run({"x": x, "w1": weights["w1"], made.seeds["y"]: s})
    return found[made.gradients["w1"]], (s @ weights["w2"]).T @ x


def test_a_registered_gradient_differentiates_the_op():
    facts = OpFacts(pointwise=True)
    register_rule("SampleOp", domain="com.microsoft", facts=facts, gradient=lambda b: b.give(0, b.gradient))(same_axes)
    found, wanted = gradient_of_w1()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_an_op_registered_without_a_gradient_has_none():
    register_rule("SampleOp", domain="com.microsoft")(same_axes)
    with pytest.raises(NoGradientError, match=r"act \(SampleOp\) has no gradient rule"):
        gradient_of_w1()


def test_an_op_with_a_rule_gets_no_second_one():
    with pytest.raises(UsageError, match="the rule of Relu cannot be registered: Relu has two rules"):
        register_rule("Relu")(lambda op: None)
    assert "Relu" not in {what for what, _ in record._registered}


def test_errors_of_plugins_are_errors_of_user_code():
    assert issubclass(UserCodeError, Exception) and UserCodeError.exit_code == 2
    assert "SampleOp" in MODEL
