"""With -v graphs are checked between passes; an internal error names the pass that it left."""

import contextvars

import onnx
import pytest

from onnx_merge.cli.main import main

ARGUMENTS = ["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge"]


@pytest.mark.parametrize(("option", "checked"), [("-v", True), ("-q", False)])
def test_graphs_are_checked_with_v(here, monkeypatch, option, checked):
    seen = []
    monkeypatch.setattr("passes.interface.runner._problem", seen.append)
    assert contextvars.Context().run(main, [*ARGUMENTS, option]) == 0
    assert bool(seen) == checked and all(isinstance(model, onnx.ModelProto) for model in seen)


def test_an_internal_error_names_the_pass(here, monkeypatch, capsys):
    def fails(graph):
        raise KeyError("w")

    monkeypatch.setattr("passes.analysis.analysis_passes.fold_batchnorm", fails)
    assert main(ARGUMENTS) == 1
    assert "internal error: KeyError: 'w'; in pass 'fold', after normalise" in capsys.readouterr().err
