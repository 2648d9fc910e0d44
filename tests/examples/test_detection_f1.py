"""The example of a metric for detections, by hand and on a tiny detector, and the commands of docs/metric.md."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from onnx_merge.cli import main as cli
from onnx_merge.compression.optimize import optimize
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "detection_f1.py"
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "metric.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
SIDE, CELL, HIDDEN = 16, 4, 12
CELLS = (SIDE // CELL) ** 2
DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
detector (float[1,1,16,16] image) => (float[1,16,7] found) {
    [blobs] a = Conv<strides = [4, 4]>(image, w, b)
    r = Relu(a)
    [mix] c = Conv(r, m)
    s = Relu(c)
    [head] d = Conv(s, v, e)
    p = Sigmoid(d)
    shape = Constant<value_ints = [1, 3, 16]>()
    q = Reshape(p, shape)
    t = Transpose<perm = [0, 2, 1]>(q)
    found = Concat<axis = 2>(boxes, t)
}
"""


def detector():
    """Finds bright (class 0) and dark (class 1) squares in the cells of a grid; half of its channels tell each."""
    rng = np.random.default_rng(0)
    signs = np.repeat([1.0, -1.0], HIDDEN // 2)
    strength = signs * rng.uniform(0.5, 2, HIDDEN)
    w = strength[:, None, None, None] / CELL**2 + 0.002 * rng.standard_normal((HIDDEN, 1, CELL, CELL))
    same = signs[:, None] == signs
    mix = np.where(same, rng.uniform(0.1, 0.4, (HIDDEN, HIDDEN)), 0)
    bright, dark = (np.where(signs == sign, 1 / (mix @ abs(strength))[signs == sign].sum(), 0) for sign in (1, -1))
    head = np.stack([12 * (bright + dark), 8 * (bright - dark), 8 * (dark - bright)])
    y, x = np.divmod(np.arange(CELLS), SIDE // CELL)
    centres = np.stack([x, y], 1) * CELL + CELL / 2
    made = onnx.parser.parse_model(DETECTOR)
    for name, array in {
        "w": w,
        "b": np.zeros(HIDDEN),
        "m": mix[:, :, None, None],
        "v": head[:, :, None, None],
        "e": [-4.0, 0.0, 0.0],
        "boxes": np.concatenate([centres, np.full((CELLS, 2), CELL)], 1)[None],
    }.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    return made


def scenes(count, seed=1):
    """Images (N, 1, 16, 16) with squares in some cells, and their boxes (N, M, 5)."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([-1, 0, 1], (count, CELLS), p=[0.7, 0.15, 0.15])
    value = np.choose(kinds + 1, [0.0, 1.0, -1.0]).reshape(count, SIDE // CELL, SIDE // CELL)
    images = np.kron(value, np.ones((CELL, CELL)))[:, None] + 0.1 * rng.standard_normal((count, 1, SIDE, SIDE))
    y, x = np.divmod(np.arange(CELLS), SIDE // CELL)
    corners = np.stack([x, y, x + 1, y + 1], 1) * CELL
    boxes = np.concatenate([np.broadcast_to(corners, (count, CELLS, 4)), kinds[..., None]], 2)
    return images.astype(np.float32), boxes.astype(np.float32)


@pytest.fixture(scope="module")
def example():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("detection_f1_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the commands of the page need."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("__pycache__"))
    images, boxes = scenes(96)
    onnx.save(detector(), "detector.onnx")
    np.savez("photos.npz", image=images)
    np.savez("boxes.npz", image=images, labels=boxes)
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,6] x) => (float[N,2] y) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }""")
    rng = np.random.default_rng(0)
    for name, shape in (("w", (6, 24)), ("v", (24, 2))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    onnx.save(model, "model.onnx")
    x = rng.standard_normal((80, 6), np.float32)
    np.savez("test.npz", x=x, labels=Session(model, CPU).run({"x": x})["y"])
    page = (ROOT / "docs" / "metric.md").read_text(encoding="utf-8")
    Path("mine.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_overlap_by_hand(example):
    box = np.array([0.0, 0, 4, 4])
    others = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [1, 1, 3, 3]], float)
    np.testing.assert_allclose(example.overlap(box, others), [1, 8 / 24, 0, 4 / 16])
    assert example.overlap(box, others[:0]).shape == (0,)


def test_of_boxes_that_overlap_the_best_stays(example):
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 3.5], [0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 3.5, 4]], float)
    kept, classes = example.suppressed(boxes, np.array([0.8, 0.9, 0.5, 0.29, 0.7]), np.array([0, 0, 1, 0, 0]))
    assert kept.tolist() == [[0, 0, 4, 3.5], [0, 0, 4, 4]] and classes.tolist() == [0, 1]


@pytest.mark.parametrize("layout", ["yolox", "ultralytics"])
def test_f1_by_hand(example, layout):
    """Of three wanted boxes two are found, one of them twice, and one of the wrong class; six have no score."""
    truth = np.array([[[0, 0, 4, 4, 0], [8, 8, 12, 12, 1], [4, 0, 8, 4, 0], [0, 0, 0, 0, -1]]], float)
    boxes = np.array([[2, 2, 4, 4], [2.8, 3.4, 4, 4], [10, 10, 4, 4], [6, 2, 4, 4], *[[2, 2, 1, 1]] * 6])
    object_, classes = np.array([1, 0.9, 1, 1, *[0] * 6])[:, None], np.array([[1, 0], [1, 0], *[[0, 1]] * 8])

    def predict(feeds):
        if layout == "yolox":
            return {"found": np.concatenate([boxes, object_, classes], 1)[None]}
        return {"found": np.concatenate([boxes, object_ * classes], 1).T[None]}

    assert example.f1(predict, {"image": np.zeros((1, 1))}, truth) == 2 * 2 / (3 + 4)


def test_the_tiny_detector_finds_what_is_there(example):
    images, boxes = scenes(40)
    session = Session(detector(), CPU)

    def predict(feeds):
        return {"found": np.concatenate([session.run({"image": x[None]})["found"] for x in feeds["image"]])}

    assert example.f1(predict, {"image": images}, boxes) == 1.0
    boxes[:, ::2, 4] = -1
    assert 0.6 < example.f1(predict, {"image": images}, boxes) < 0.75
    with pytest.raises(ValueError, match="there are no boxes"):
        example.f1(predict, {"image": images[:1] * 0}, boxes[:1] * 0 - 1)


def test_it_tells_a_good_result_from_a_bad_one(folder):
    given = {
        "calib": "photos.npz",
        "metric": "examples/detection_f1.py:f1",
        "align": 1,
        "allocation": "uniform",
        "gate": False,
    }
    good, bad = (
        optimize("detector.onnx", keep=keep, **given, **how)[1] for keep, how in ((0.7, {}), (0.1, {"method": "prune"}))
    )
    assert good.metric.before == bad.metric.before == 1.0
    assert good.metric.after > 0.95 > 0.7 > bad.metric.after
    assert good.metric.name == "detection_f1.py:f1"


def test_the_page_has_commands():
    assert len(COMMANDS) == 5 and all(line.startswith("onnx-merge ") for line in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(folder, command, capsys):
    arguments = [*shlex.split(command)[1:], "--align", "1"]
    sweeps = arguments[0] == "sweep"
    assert cli.main(arguments if sweeps else [*arguments, "--report", "r.json"]) == 0, capsys.readouterr()
    if sweeps:
        assert json.loads((folder / "sizes" / "sweep.json").read_text())["metric_name"] == "mine.py:mine"
    else:
        assert json.loads((folder / "r.json").read_text())["metric"]["after"] is not None
        assert "metric    " in capsys.readouterr().out and (folder / "smaller.onnx").exists()
