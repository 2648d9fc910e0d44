"""Models whose layers compute with quantised numbers: exit 4, one line with node and remedy, and nothing written."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge import inspect_model
from onnx_merge.cli import main as cli
from onnx_merge.compression.optimize import optimize
from onnx_merge.errors import NotCompressibleError
from passes.interface.reason import text

RNG = np.random.default_rng(0)
S, U = np.array(0.02, np.float32), np.array(3, np.uint8)


def int8(*shape):
    return RNG.integers(-90, 90, shape).astype(np.int8)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, VECTOR = "(float[N,3,8,8] x) => (float[N,6,8,8] y)", "(float[N,6] x) => (float[N,4] y)"
CONVS = {"w": int8(8, 3, 1, 1), "v": int8(6, 8, 1, 1)}
DENSE = {"w": int8(6, 8), "v": int8(8, 4)}
QUANTITIES = {"s": S, "u": U, "i": np.array(0, np.int8)}
CASES = {
    "QLinearConv": (
        IMAGE,
        """q = QuantizeLinear(x, s, u)  [first] a = QLinearConv(q, s, u, w, s, i, s, u)
           b = QLinearConv(a, s, u, v, s, i, s, u)  y = DequantizeLinear(b, s, u)""",
        {**CONVS, **QUANTITIES},
    ),
    "QLinearMatMul": (
        VECTOR,
        """q = QuantizeLinear(x, s, u)  [first] a = QLinearMatMul(q, s, u, w, s, i, s, u)
           b = QLinearMatMul(a, s, u, v, s, i, s, u)  y = DequantizeLinear(b, s, u)""",
        {**DENSE, **QUANTITIES},
    ),
    "ConvInteger": (
        IMAGE,
        """q = QuantizeLinear(x, s, u)  [first] a = ConvInteger(q, w, u)  af = Cast<to = 1>(a)  am = Mul(af, s)
           ar = Relu(am)  p = QuantizeLinear(ar, s, u)  b = ConvInteger(p, v, u)
           bf = Cast<to = 1>(b)  y = Mul(bf, s)""",
        {**CONVS, "s": S, "u": U},
    ),
    "MatMulInteger": (
        VECTOR,
        """q = QuantizeLinear(x, s, u)  [first] a = MatMulInteger(q, w, u)  af = Cast<to = 1>(a)  am = Mul(af, s)
           ar = Relu(am)  p = QuantizeLinear(ar, s, u)  b = MatMulInteger(p, v, u)
           bf = Cast<to = 1>(b)  y = Mul(bf, s)""",
        {**DENSE, "s": S, "u": U},
    ),
    "DynamicQuantizeLinear": (
        VECTOR,
        """[first] q, qs, qz = DynamicQuantizeLinear(x)  a = MatMulInteger(q, w, qz)  af = Cast<to = 1>(a)
           am = Mul(af, qs)  ar = Relu(am)  p, ps, pz = DynamicQuantizeLinear(ar)  b = MatMulInteger(p, v, pz)
           bf = Cast<to = 1>(b)  y = Mul(bf, ps)""",
        DENSE,
    ),
    "DequantizeLinear": (  # weights in blocks
        VECTOR,
        """[first] d = DequantizeLinear<axis = 0, block_size = 2>(w, ws)  a = MatMul(x, d)  r = Relu(a)
           e = DequantizeLinear<axis = 0, block_size = 2>(v, vs)  y = MatMul(r, e)""",
        {**DENSE, "ws": np.abs(floats(3, 8)), "vs": np.abs(floats(4, 4))},
    ),
    "QLinearAdd": (  # what is left of a network after onnxruntime's quantiser
        VECTOR,
        """q = QuantizeLinear(x, s, u)  [first] a = com.microsoft.QLinearAdd(q, s, u, q, s, u, s, u)
           b = com.microsoft.QGemm(a, s, u, v6, s, i, , s, u)  y = DequantizeLinear(b, s, u)""",
        {"v6": int8(6, 4), **QUANTITIES},
    ),
    "MatMulNBits": (
        VECTOR,
        """[first] a = com.microsoft.MatMulNBits<K = 6, N = 8, bits = 4, block_size = 16>(x, w, ws)  r = Relu(a)
           y = com.microsoft.MatMulNBits<K = 8, N = 4, bits = 4, block_size = 16>(r, v, vs)""",
        {"w": np.zeros((8, 1, 8), np.uint8), "ws": floats(8), "v": np.zeros((4, 1, 8), np.uint8), "vs": floats(4)},
    ),
}


def quantised(name):
    signature, nodes, weights = CASES[name]
    head = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(f"{head} net {signature} {{ {nodes} }}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in weights.items())
    return model


@pytest.mark.parametrize("name", CASES)
def test_the_node_and_the_remedy_are_named(name, tmp_path, capsys):
    onnx.save(quantised(name), tmp_path / "in.onnx")
    assert cli.main([str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--keep", "0.5"]) == 4
    expected = f"nothing can be removed: first ({name}) is quantised: compress first, then quantise"
    assert capsys.readouterr().err == f"onnx-merge: error: {expected}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"lossless": True}, {"keep": 0.5, "method": "prune"}])
def test_a_float_layer_at_the_end_does_not_hide_it(options):
    """Its own channels are the model's output, those it reads come out of a quantised layer."""
    model = quantised("MatMulInteger")
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("MatMul", ["z", "k"], ["y"], "last"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(4, 4), "k"))
    with pytest.raises(NotCompressibleError, match=r"first \(MatMulInteger\) is quantised: compress first"):
        optimize(model, **options)


def test_the_float_part_of_a_mixed_model_shrinks():
    """Behind a layer that stays, with that reason."""
    model = quantised("MatMulInteger")
    model.graph.node[-1].output[0] = "z"
    for k, (op, inputs) in enumerate([("MatMul", ["z", "k"]), ("Relu", ["t0"]), ("MatMul", ["t1", "l"])]):
        model.graph.node.append(onnx.helper.make_node(op, inputs, ["y" if k == 2 else f"t{k}"]))
    for name, shape in {"k": (4, 9), "l": (9, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(floats(*shape), name))
    _, result = optimize(model, keep=0.5)
    assert [(g.name, g.kept, text(g.reason)) for g in result.groups] == [
        ("t0", 5, None),
        ("y", 4, "y is a graph output"),
    ]


def test_other_reasons_come_first():
    """That a channel may not go where it could is what the user can mend without another model."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]> net (float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, w)  r = Relu(a)  q, s, z = DynamicQuantizeLinear(x)  m = MatMulInteger(q, v, z)
            f = Cast<to = 1>(m)  b = MatMul(r, k)  y = Add(b, f) }"""
    )
    arrays = {"w": floats(6, 8), "v": int8(6, 4), "k": floats(8, 4)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in arrays.items())
    with pytest.raises(NotCompressibleError, match="excluded by 'a': exclude less"):
        optimize(model, keep=0.5, exclude="a")
    with pytest.raises(NotCompressibleError, match="no channel is free"):
        optimize(model, lossless=True)


def refuse_to_run(*_, **__):
    raise AssertionError("samples are calibrated on")


@pytest.mark.parametrize("name", CASES)
def test_it_is_known_before_anything_is_calibrated(name, monkeypatch):
    monkeypatch.setattr("onnx_merge.compression.preparation.Job", refuse_to_run)
    with pytest.raises(NotCompressibleError, match="is quantised: compress first, then quantise"):
        optimize(quantised(name), keep=0.5)


@pytest.mark.parametrize("options", [{"keep": 0.5}, {"lossless": True}, {"target_macs": 0.5}, {"max_drop": 1}], ids=str)
def test_so_is_every_other_reason_that_holds_for_all_groups(options, monkeypatch):
    monkeypatch.setattr("onnx_merge.compression.preparation.Job", refuse_to_run)
    text = """<ir_version: 10, opset_import: ["" : 21]> net (float[N,6] x) => (float[N,4] y) {
        a = MatMul(x, w)  s = Softmax(a)  y = MatMul(s, v) }"""
    model = onnx.parser.parse_model(text)
    arrays = {"w": floats(6, 8), "v": floats(8, 4)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in arrays.items())
    with pytest.raises(NotCompressibleError, match=r"a: s \(Softmax\) normalises over it"):
        optimize(model, **options)


@pytest.mark.parametrize("name", CASES)
def test_inspect_calls_it_quantised(name):
    found = inspect_model(quantised(name))
    assert f"first ({name}) is quantised: compress first, then quantise" in found.notes[0]
    if name != "DequantizeLinear":  # there the layers are plain ones, their weights are not
        assert not found.groups and found.notes[0].startswith("the model is quantised: ")
        assert found.model.params >= 24
        if name != "DynamicQuantizeLinear":
            assert "is quantised" in text(found.ungrouped[0].reason)
    assert found.model.macs >= 24


def test_inspect_counts_the_quantised_layers_of_a_mixed_model():
    model = quantised("MatMulInteger")
    model.graph.node[-1].output[0] = "z"
    for k, (op, inputs) in enumerate([("MatMul", ["z", "k"]), ("Relu", ["t0"]), ("MatMul", ["t1", "l"])]):
        model.graph.node.append(onnx.helper.make_node(op, inputs, ["y" if k == 2 else f"t{k}"]))
    for name, shape in {"k": (4, 9), "l": (9, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(floats(*shape), name))
    (note,) = inspect_model(model).notes
    assert note == "2 quantised layers stay whole: first (MatMulInteger) is quantised: compress first, then quantise"
