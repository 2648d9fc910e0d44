"""``--fix-input``: what users write, in the type and shape of the input."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_merge import UsageError, inspect_model, optimize
from onnx_merge.cli.main import main
from onnx_merge.config.options import Options
from onnx_merge.inputs.fixed_inputs import as_declared

INT64, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL


@pytest.mark.parametrize(
    ("kind", "shape", "value", "expected"),
    [
        (INT64, [], "16000", np.array(16000)),
        (INT64, [], 16000, np.array(16000)),
        (INT64, [1], "-3", np.array([-3])),
        (BOOL, [], "true", np.array(True)),
        (BOOL, [], False, np.array(False)),
        (FLOAT, [1, 3], "1,2.5,-3", np.float32([[1, 2.5, -3]])),
        (FLOAT, ["N", 2], [1, 2, 3, 4], np.float32([[1, 2], [3, 4]])),
        (FLOAT, None, "1,2", np.float32([1, 2])),
        (FLOAT, ["a", "b"], 2, np.float32([[2]])),
        (FLOAT, [2], np.float64([1, 2]), np.float32([1, 2])),
        (TensorProto.FLOAT16, [2], "1,2", np.float16([1, 2])),
        (TensorProto.STRING, [2], "a,b", np.array(["a", "b"], object)),
    ],
)
def test_values(kind, shape, value, expected):
    found = as_declared(helper.make_tensor_value_info("v", kind, shape), value)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "shape", "value", "message"),
    [
        (INT64, [], "1.5", "'v' takes int64, which '1.5' is not"),
        (TensorProto.UINT8, [], "256", "'v' takes uint8, which '256' is not"),
        (BOOL, [], "2", "'v' takes bool, which '2' is not"),
        (FLOAT, [], "true", "'v' takes float32, which 'true' is not"),
        (FLOAT, [1, 3], "1,2", "'v' has shape (1, 3), which 2 values do not fill"),
        (FLOAT, ["N", 2], "1,2,3", "'v' has shape (N, 2), which 3 values do not fill"),
        (INT64, [2], np.float32([1, 2]), "'v' takes int64, not float32"),
        (TensorProto.INT8, [1], np.array([300]), "'v' takes int8, which the values given do not fit into"),
        (FLOAT, ["N", 2], np.ones((2, 3), np.float32), "'v' has shape (N, 2), not (2, 3)"),
    ],
)
def test_values_that_do_not_fit(kind, shape, value, message):
    with pytest.raises(UsageError) as refusal:
        as_declared(helper.make_tensor_value_info("v", kind, shape), value)
    assert str(refusal.value) == f"fix-input: {message}"


def test_a_file(tmp_path):
    np.save(tmp_path / "v.npy", np.float64([[1, 2, 3]]))
    declared = helper.make_tensor_value_info("v", FLOAT, ["N", 3])
    np.testing.assert_array_equal(as_declared(declared, str(tmp_path / "v.npy")), np.float32([[1, 2, 3]]))


def test_how_it_is_written():
    expected = (("a:0", "1,2"), ("b", "x=y.npy"))
    assert Options.make({"fix-input": ["a:0=1,2", "b=x=y.npy"]}).fix_input == expected
    assert Options.make({"fix_input": {"a:0": "1,2", "b": "x=y.npy"}}).fix_input == expected
    assert Options.make({"fix_input": [("a", 3)]}).fix_input == (("a", 3),)
    assert [str(path) for path in Options.make({"fix_input": expected}).fixed_files] == ["x=y.npy"]
    for wrong in ("a", "=1", "a=", [("a", "")]):
        with pytest.raises(UsageError, match="must be NAME=VALUE"):
            Options.make({"fix_input": wrong})
    with pytest.raises(UsageError, match="gives 'a' twice"):
        Options.make({"fix_input": ["a=1", "a=2"]})


def network():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,6] x, int64 rate, bool flag) => (float[N,3] y) {
            h = Gemm<transB=1>(x, w)  r = Relu(h)  wide = Greater(rate, low)
            y = If(wide) <
                then_branch = a () => (float[N,3] t) {
                    d = Gemm<transB=1>(r, v)  e = Relu(d)  t = Gemm<transB=1>(e, o)
                },
                else_branch = c () => (float[N,3] u) { u = Gemm<transB=1>(r, q) }
            >
        }""")
    rng = np.random.default_rng(0)
    weights = {"w": (12, 6), "v": (10, 12), "o": (3, 10), "q": (3, 12)}
    arrays = {n: rng.standard_normal(s, np.float32) for n, s in weights.items()}
    for name, array in {**arrays, "low": np.array(9000)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def test_a_run():
    """The input is gone, the branch that it decides shrinks, and all that is checked is checked against that."""
    smaller, result = optimize(
        network(), keep=0.5, method="merge", allocation="uniform", fix_input=["rate=16000", "flag=false"]
    )
    assert [v.name for v in smaller.graph.input] == ["x"]
    assert {t.name: list(t.dims) for t in smaller.graph.initializer if t.name in "wvo"} == {
        "w": [6, 6], "v": [5, 6], "o": [3, 5],
    }  # fmt: skip
    assert result.fidelity is not None


def test_an_inspection():
    assert {g.name for g in inspect_model(network(), fix_input={"rate": 16000}).groups} == {"h", "d", "y"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("speed=1", "fix-input: the model has no input 'speed': it has flag, rate, x"),
        ("rate=1,2", "fix-input: 'rate' has shape (), which 2 values do not fill"),
    ],
)
def test_what_does_not_fit_the_model(given, message):
    with pytest.raises(UsageError) as refusal:
        optimize(network(), keep=0.5, fix_input=given)
    assert str(refusal.value) == message


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "in.onnx")
    np.save("rate.npy", np.array(100))
    common = ["--keep", "0.5", "--method", "merge", "--fix-input", "flag=true"]
    assert main(["in.onnx", "out.onnx", *common, "--fix-input", "rate=rate.npy"]) == 0
    assert [v.name for v in onnx.load("out.onnx").graph.input] == ["x"]
    assert main(["inspect", "in.onnx", "--fix-input", "rate=16000"]) == 0
    capsys.readouterr()
    assert main(["in.onnx", "out.onnx", *common, "--fix-input", "rate=fast", "--force"]) == 2
    assert capsys.readouterr().err == "onnx-merge: error: fix-input: 'rate' takes int64, which 'fast' is not\n"
    assert main(["in.onnx", "rate.npy", *common, "--fix-input", "rate=rate.npy", "--force"]) == 2
    assert "rate.npy" in capsys.readouterr().err
