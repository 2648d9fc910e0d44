"""Every code block of the README and of docs/ runs as it stands, except those that need a network or another machine.

Blocks of one page run in order and in one folder. A block that cannot run here gets a recipe in `network_blocks.py`.
"""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.cli import main as cli
from onnx_merge.plugins import record
from passes.axes import registry
from passes.compress import custom_passes

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("network_blocks", Path(__file__).with_name("network_blocks.py"))
network_blocks = importlib.util.module_from_spec(_spec)
sys.modules["network_blocks"] = network_blocks  # dataclasses look their module up
_spec.loader.exec_module(network_blocks)
PAGES, RUN, NETWORK, blocks = (getattr(network_blocks, name) for name in ("PAGES", "RUN", "NETWORK", "blocks"))
ELSEWHERE = {
    "metric.md": "tests/examples/test_detection_f1.py",
    "pipeline.md": "tests/passes/test_pipeline_example.py",
}
"""Pages whose blocks another test runs."""
FRAGMENTS = ("adding-an-op.md",)
"""Pages whose blocks are parts of files: they have to be Python, no more."""
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,16] x) => (float[N,4] y) {
    [layer1] a = MatMul(x, w)  b = Relu(a)  [layer2] c = MatMul(b, m)  d = Relu(c)  [head] y = MatMul(d, v)
}
"""


def runnable(page):
    return [(kind, text) for kind, text in blocks(page) if kind in RUN and not NETWORK.search(text)]


def network(text, **sizes):
    """A model with random weights."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        array = rng.standard_normal(size, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch, own_op):
    """What the pages speak of. What a page registers is forgotten."""
    monkeypatch.chdir(tmp_path)
    registry.rules()
    for table in ("_RULES", "_FACTS", "_GRADIENTS"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    monkeypatch.setattr(custom_passes, "_CUSTOM", [])
    monkeypatch.setattr(record, "_registered", [])
    Path("models").mkdir()
    for name in ("digits_calib.npz", "digits_test.npz", "digits_mlp.onnx"):
        shutil.copy(ROOT / "models" / name, "models")
    shutil.copy("models/digits_mlp.onnx", "models/digits_cnn.onnx")  # the smaller one: here the commands are tested
    shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("__pycache__"))
    onnx.save(network(MODEL, w=(16, 32), m=(32, 24), v=(24, 4)), "model.onnx")
    onnx.save(own_op, "own.onnx")
    x = np.random.default_rng(1).standard_normal((80, 16), np.float32)
    np.savez("test.npz", x=x, labels=np.arange(80) % 4)
    np.savez("samples.npz", x=x)
    return tmp_path


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.name) for p in PAGES if p.name not in (*ELSEWHERE, *FRAGMENTS) and runnable(p)]
)
def test_the_blocks_of_a_page_run(folder, page):
    scope = {"__name__": "example"}
    for kind, text in runnable(page):
        if kind == "python":
            text = text.replace("jobs=2", "jobs=1")  # that several processes give the same is tested elsewhere
            exec(compile(text, page.name, "exec"), scope)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command, *words = shlex.split(line, comments=True) or [""]
            if command == "onnx-merge":
                assert cli.main(words) == 0, line
            elif command == "python" and words[0] == "-c":
                assert subprocess.run([sys.executable, *words], check=False).returncode == 0, line
            else:
                assert not command, f"{page.name}: what is {line!r}?"


def test_the_steps_of_the_action_run(folder):
    (workflow,) = (text for kind, text in blocks(ROOT / "docs" / "deploy.md") if kind == "yaml")
    commands = re.findall(r"run: onnx-merge (.*)", workflow)
    assert len(commands) == 2
    for command in commands:
        assert cli.main(shlex.split(command)) == 0, command
    uploaded = [line.strip() for line in workflow[workflow.index("path: |") :].splitlines()[1:]]
    assert all(Path(name).exists() for name in uploaded if name)


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in PAGES])
def test_python_is_python(page):
    for kind, text in blocks(page):
        if kind == "python":
            ast.parse(text)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_pages_that_run_elsewhere(name):
    assert name in (ROOT / ELSEWHERE[name]).read_text(encoding="utf-8")


def test_the_other_blocks_have_a_recipe():
    """`network_blocks.py` runs what is left out here, or says why not."""
    found = [network_blocks.recipe_of(text) for _, _, text in network_blocks.network_blocks()]
    assert {recipe.part for recipe in network_blocks.RECIPES} == {one.part for one in found if not isinstance(one, str)}
