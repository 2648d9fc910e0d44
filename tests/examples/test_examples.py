"""The examples run as their first lines say, and do what they say."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_merge.cli import main as cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODELS = ROOT / "models"
COMMAND = f'#!/bin/sh\nexec "{sys.executable}" -m onnx_merge "$@"\n'


def loaded(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs words in a folder of their own, with `onnx-merge` and `python` of these tests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for name, text in (("onnx-merge", COMMAND), ("python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}

    def run(*words):
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    return run


def test_the_list_names_all():
    listed = re.findall(r"^\| \[(.*?)\]\((.*?)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(text == link for text, link in listed)
    assert sorted(name for name, _ in listed) == sorted(
        path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_pipeline(shell):
    """Ends with 0 and a file that keeps what it says; a file that does not is told by exit code 3."""
    given = [str(MODELS / name) for name in ("digits_mlp.onnx", "digits_calib.npz", "digits_test.npz")]
    done = shell("bash", str(EXAMPLES / "pipeline.sh"), *given, "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out/smaller.onnx keeps what it says\n" and done.stderr == ""
    assert onnx.load("out/smaller.onnx").ByteSize() < onnx.load(given[0]).ByteSize()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        (2, 2, "an option or a file is wrong"),
        (3, 3, "too much was lost"),
        (4, 0, "nothing can be removed"),
        (5, 5, "onnx-merge failed with exit code 5"),
    ],
)
def test_pipeline_on_other_exit_codes(shell, tmp_path, code, expected, said):
    (tmp_path / "bin" / "onnx-merge").write_text(f"#!/bin/sh\nexit {code}\n")
    Path("in.onnx").write_bytes(b"the original")
    done = shell("bash", str(EXAMPLES / "pipeline.sh"), "in.onnx", "c.npz", "t.npz", "out")
    assert done.returncode == expected and said in done.stderr
    assert Path("out/smaller.onnx").exists() == (code == 4)


def test_compress(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = loaded("compress").main
    assert main(str(MODELS / "digits_mlp.onnx"), str(MODELS / "digits_calib.npz"), "smaller.onnx") == 0
    out = capsys.readouterr().out
    assert re.search(r"MACs 50,432 -> (29|30|31),\d{3}\ngood: ", out)
    assert "/head/Gemm: 10 -> 10 (logits is a graph output)" in out and Path("smaller.onnx").exists()


def test_own_calibration(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS", str(MODELS / "digits_calib.npz"))
    monkeypatch.chdir(tmp_path)
    first = next(loaded("own_calibration").samples())["input"]
    assert first.shape == (1, 1, 8, 8) and first.dtype == np.float32 and 0 <= first.min() < first.max() <= 1
    words = ["out.onnx", "--keep", "0.7", "--calib", f"{EXAMPLES / 'own_calibration.py'}:samples", "--report", "r.json"]
    assert cli.main([str(MODELS / "digits_mlp.onnx"), *words, "--quiet"]) == 0
    assert json.loads(Path("r.json").read_text())["fidelity"]["real"] is True


def test_own_pass(shell):
    words = [str(MODELS / "digits_cnn.onnx"), "smaller.onnx"]
    done = shell("python", str(EXAMPLES / "own_pass.py"), *words)
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout.splitlines()[-1].replace("'", '"'))
    assert min(kept.values()) == 10 and sorted(kept.values())[1] == 24, "ten classes, and the pass's 24"
    assert re.search(r"\d groups keep 24 channels, more than allocated", done.stdout)


def test_own_op_rule(shell, own_op):
    onnx.save(own_op, "model.onnx")
    done = shell("python", str(EXAMPLES / "own_op_rule.py"), "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "first: 32 channels, prune-only: no scale passes through act (SampleOp)" in done.stdout


@pytest.mark.torch
def test_plan_to_pytorch(tmp_path, monkeypatch):
    """The cut module computes what pruning by the same plan leaves of the model, exactly."""
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    model = str(MODELS / "digits_mlp.onnx")
    assert (
        cli.main([model, "s.onnx", "--keep", "0.5", "--method", "prune", "--save-plan", "p.json", "--no-gate", "-q"])
        == 0
    )
    example = loaded("plan_to_pytorch")
    network = example.cut(example.load(Path(model)), Path("p.json"))
    assert network.first.weight.shape[0] < 256 and network.second.in_features == network.first.weight.shape[0]
    pruned = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load("s.onnx").graph.initializer}
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), pruned[name], rtol=0, atol=1e-6)
    with torch.no_grad():
        assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
