"""Libraries of operators that onnxruntime does not know."""

import shutil
import subprocess

import numpy as np
import onnx
import pytest
from smallnet import network

from onnx_merge import inspect_model, optimize, sweep, verify
from onnx_merge.compression.job import Job
from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, UsageError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.io.model_source import load_source
from onnx_merge.runtime import session
from onnx_merge.runtime.custom_operators import foreign_operators, library_path
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.sweeping.candidates import Candidate, pack, run_packed
from passes.interface.runner import StageTimer

STUB = """
#include <stdio.h>
#include <stdlib.h>
void *RegisterCustomOps(void *options, const void *api) {
    FILE *log = fopen(getenv("OPERATORS_LOG"), "a");
    if (log) { fputc('x', log); fclose(log); }
    return 0;
}
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library without operators, which notes how often it is registered: (its path, how often)."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "ops.c").write_text(STUB)
    path, log = tmp_path / "ops.so", tmp_path / "log"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, tmp_path / "ops.c"], check=True)
    log.write_text("")
    monkeypatch.setenv("OPERATORS_LOG", str(log))
    return path, lambda: len(log.read_text())


def foreign(model=None, op="Strange", domain="their.own", last="y"):
    model = model or network()
    model.opset_import.add(domain=domain, version=1)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node(op, ["before"], [last], domain=domain))
    return model


def test_every_session_knows_them(library, monkeypatch):
    path, count = library
    made = []
    first = Session.__init__
    monkeypatch.setattr(session.Session, "__init__", lambda self, *a, **k: (made.append(1), first(self, *a, **k))[1])
    optimize(network(), keep=0.5, method="merge", custom_ops=[path])
    assert count() == len(made) + 1 > 4  # once to see that it is one
    before = count()
    Session(network())
    assert count() == before


def test_sessions_of_other_processes_know_them(library):
    path, count = library
    options = Options.make({"keep": 0.5, "method": "merge", "custom_ops": str(path)})
    source, stages = load_source(network()), StageTimer()
    job = Job(source, options, stages, comparison_with(source.model, options, CPU))
    job.prepare()
    packed, before = pack(job), count()
    assert run_packed(packed, Candidate(0.5)).model is not None
    assert count() > before + 1


def test_sweeps_and_inspections_know_them(library, tmp_path):
    path, count = library
    sweep(network(), tmp_path / "sizes", steps=2, method="merge", custom_ops=path)
    before = count()
    assert before > 4
    inspect_model(network(), custom_ops=path)
    assert count() > before


def test_verifications_know_them(library, tmp_path):
    path, count = library
    optimize(network(), tmp_path / "out.onnx", keep=0.5, method="merge", custom_ops=path)
    before = count()
    assert verify(tmp_path / "out.onnx", network(), custom_ops=path).keeps
    assert count() > before + 1


def test_the_library_is_not_overwritten(library):
    path, _ = library
    with pytest.raises(UsageError, match="which the input needs"):
        optimize(network(), path, keep=0.5, custom_ops=path, force=True)


def test_a_package_names_its_library(tmp_path, monkeypatch):
    (tmp_path / "their_operators.py").write_text("def get_library_path():\n    return '/somewhere/ops.so'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert library_path("their_operators") == "/somewhere/ops.so"
    with pytest.raises(InputError, match="no library of operators"), custom_operators(["their_operators"]):
        pass


def test_operators_of_an_extension():
    extensions = pytest.importorskip("onnxruntime_extensions")
    model = network()
    model.opset_import.add(domain="ai.onnx.contrib", version=1)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("NegPos", ["before"], ["y", "z"], domain="ai.onnx.contrib"))
    with pytest.raises(InputError, match="does not know ai.onnx.contrib:NegPos"):
        optimize(model, keep=0.5)
    for name in ("onnxruntime_extensions", extensions.get_library_path()):
        result = optimize(model, keep=0.5, calib_samples=16, custom_ops=name)[1]
        assert result.fidelity is not None and result.groups[0].kept < 32


def test_which_operators_are_foreign():
    assert foreign_operators(network()) == []
    model = foreign(foreign(last="before"), "Other")
    body = onnx.parser.parse_graph("body () => (float[1] r) { r = Constant<value_floats=[1.0]>() }")
    body.node.append(onnx.helper.make_node("Inner", ["r"], ["q"], domain="their.own"))
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=body))
    assert foreign_operators(model) == ["their.own:Inner", "their.own:Other", "their.own:Strange"]
    model.functions.append(onnx.helper.make_function("their.own", "Other", ["a"], ["b"], [], []))
    assert foreign_operators(model) == ["their.own:Inner", "their.own:Strange"]


def test_unknown_operators_are_named_before_any_work():
    with pytest.raises(InputError, match=r"does not know their.own:Strange: give the library .* --custom-ops LIBRARY"):
        optimize(foreign(), keep=0.5)
    result = optimize(foreign(), keep=0.5, unverified=True)[1]
    assert result.fidelity is None and result.doubts == ()
    assert np.isfinite(result.after.params)
