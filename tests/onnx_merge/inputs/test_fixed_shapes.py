"""Shapes given by the user: --input-shape fixes nothing, --fix-shape is declared in the result."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.cli import main as cli
from onnx_merge.errors import UsageError
from onnx_merge.inputs.fixed_shapes import with_fixed_shapes
from onnx_merge.io.model_source import load_source

TEXT = """g (float[N,3,H,W] x) => (float[N,2,H,W] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w)  r = Relu(a)  s = Shape(r)  t = Slice(s, two, four)
    to = Concat<axis=0>(start, t)  v = Reshape(r, to)  y = Conv(v, y_w) }"""
WEIGHTS = {"a_w": (8, 3, 3, 3), "y_w": (2, 8, 1, 1)}
NUMBERS = {"two": [2], "four": [4], "start": [0, 8]}


def model(text, sizes):
    parsed = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return parsed


@pytest.fixture
def dynamic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = model(TEXT, WEIGHTS)
    numbers = [onnx.numpy_helper.from_array(np.array(v, np.int64), n) for n, v in NUMBERS.items()]
    made.graph.initializer.extend(numbers)
    onnx.save(made, "in.onnx")
    return made


def declared(name):
    graph = onnx.load(name).graph
    return [
        [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in (graph.input[0], graph.output[0])
    ]


@pytest.mark.parametrize("way", [["--keep", "0.5", "--method", "merge"], ["--keep", "1"]])
def test_an_input_shape_pins_nothing(dynamic, way):
    assert cli.main(["in.onnx", "out.onnx", *way, "--input-shape", "x:1,3,16,16", "-q"]) == 0
    assert declared("out.onnx") == [["N", 3, "H", "W"], ["N", 2, "H", "W"]]


def test_a_fixed_shape_is_declared_and_its_symbols_wherever_they_stand(dynamic):
    arguments = ["--keep", "0.5", "--method", "merge", "--fix-shape", "x:1,3,16,12", "-q"]
    assert cli.main(["in.onnx", "out.onnx", *arguments]) == 0
    assert declared("out.onnx") == [[1, 3, 16, 12], [1, 2, 16, 12]]
    assert declared("in.onnx") == [["N", 3, "H", "W"], ["N", 2, "H", "W"]]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("z", (1, 3, 4, 4)), "has no input 'z': it has x"),
        (("H", (64,)), "'H' is a dimension of input 'x', not an input: .* x:N,3,64,W$"),
        (("x", (1, 3, 4)), r"shape \(N, 3, H, W\), which \(1, 3, 4\) does not fit"),
        (("x", (1, 4, 4, 4)), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(dynamic, given, problem):
    with pytest.raises(UsageError, match=problem):
        with_fixed_shapes(load_source(dynamic), [given])


def test_a_symbol_has_one_size():
    made = model("g (float[N,N] x) => (float[N,N] y) { y = Relu(x) }", {})
    with pytest.raises(UsageError, match="dimension 'N' cannot be both 2 and 3"):
        with_fixed_shapes(load_source(made), [("x", (2, 3))])


def without_shape(model, *names):
    for value in (*model.graph.input, *model.graph.output):
        if value.name in names:
            value.type.tensor_type.ClearField("shape")
    return model


def test_an_output_may_have_no_declared_shape(dynamic):
    onnx.save(without_shape(dynamic, "y"), "in.onnx")
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge", "-q"]) == 0
    assert onnx.load("out.onnx").graph.output[0] == dynamic.graph.output[0]
    assert next(t for t in onnx.load("out.onnx").graph.initializer if t.name == "a_w").dims[0] == 4


def test_an_input_without_a_shape_needs_one(dynamic, capsys):
    onnx.save(without_shape(dynamic, "x"), "in.onnx")
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge", "-q"]
    assert cli.main(arguments) == 2
    assert "input 'x' has no declared shape: declare one with --fix-shape" in capsys.readouterr().err
    assert cli.main(["inspect", "in.onnx"]) == 2
    assert cli.main([*arguments, "--fix-shape", "x:1,3,16,12"]) == 0
    assert declared("out.onnx")[0] == [1, 3, 16, 12]
