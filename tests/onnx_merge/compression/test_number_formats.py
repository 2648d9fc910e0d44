"""Results in other number formats: what the file holds, what is compared, and what is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from chainnet import CHAIN, SIZES

from onnx_merge import optimize
from onnx_merge.cli.main import main
from onnx_merge.errors import NotCompressibleError, UsageError
from onnx_merge.runtime.number_formats import convert
from onnx_merge.runtime.session import Session

MODELS = Path(__file__).parents[3] / "models"


def chain(opset=17, batch="N", weights_are_inputs=False):
    """A small classifier with random weights, in the form of old exporters where ``weights_are_inputs``."""
    declared = [f"float[{','.join(map(str, size))}] {name}" for name, size in SIZES.items()] * weights_are_inputs
    inputs = ", ".join(["float[N,3,8,8] x", *declared])
    text = CHAIN.replace('"" : 17', f'"" : {opset}').replace("float[N,3,8,8] x", inputs).replace("[N,", f"[{batch},")
    model = onnx.parser.parse_model(text.replace("ir_version: 8", "ir_version: 3") if weights_are_inputs else text)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        weights = rng.standard_normal(size, np.float32) / np.float32(np.sqrt(np.prod(size[1:])))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    return model


def samples(count=64):
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


def kinds(model):
    return Counter(onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer)


def noise(model, made, batch=64):
    x = samples()
    before, after = (
        np.concatenate([Session(m).run({"x": x[i : i + batch]})["y"] for i in range(0, 64, batch)])
        for m in (model, made)
    )
    return np.square(before - after).sum() / np.square(before - before.mean(0)).sum()


@pytest.mark.parametrize(
    ("opset", "batch", "old"),
    [(17, "N", False), (11, "N", False), (9, 1, True)],
    ids=["17", "11", "weights are inputs"],
)
@pytest.mark.parametrize("kind", ["int8", "int8-dynamic", "fp16"])
def test_the_converted_model_has_the_interface_of_the_original_and_answers_as_it(kind, opset, batch, old):
    model = chain(opset, batch, old)
    session = Session(model)
    made = convert(model, kind, {"x": samples()}, session.inputs)
    assert [*made.graph.output] == [*model.graph.output]
    assert [v for v in made.graph.input if v.name == "x"] == [v for v in model.graph.input if v.name == "x"]
    assert [i.name for i in Session(made).inputs] == ["x"]
    assert noise(model, made, batch if isinstance(batch, int) else 64) < (1e-4 if kind == "fp16" else 0.1)
    held = kinds(made)
    if kind == "fp16":
        assert held["FLOAT"] == 0 and held["FLOAT16"] == len(SIZES)
    elif kind == "int8":
        assert held["INT8"] >= 3  # the weights of three layers
    else:
        assert held["INT8"] >= 1  # the one matrix product


@pytest.mark.parametrize("layer", ["Gemm(x, w, b)", "Add(p, b)"])
def test_biases_with_two_axes_are_converted(layer):
    """onnxruntime's tools fail at a Gemm with such a bias, and make one of MatMul and Add."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,8] x) => (float[N,6] y, float[N,6] z) {{
        p = MatMul(x, w)  h = {layer}  y = Relu(h)  z = Gemm(x, v, b) }}"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in (("w", (8, 6)), ("v", (8, 6)), ("b", (1, 6))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    feeds = {"x": rng.standard_normal((64, 8), np.float32)}
    made = convert(model, "int8", feeds, Session(model).inputs)
    before, after = (Session(one).run(feeds) for one in (model, made))
    for name in ("y", "z"):
        assert np.abs(before[name] - after[name]).max() < 0.1 and kinds(made)["INT8"]


def test_scales_come_from_the_samples():
    """Ten times as large samples, ten times as large a scale of the input."""
    model = chain()
    scales = []
    for factor in (1, 10):
        made = convert(model, "int8", {"x": factor * samples()}, Session(model).inputs)
        first = next(n for n in made.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
        scales.append(float(arrays[first.input[1]]))
    assert scales[1] == pytest.approx(10 * scales[0])


def test_the_model_to_convert_is_not_changed():
    model = chain()
    before = model.SerializeToString(deterministic=True)
    for kind in ("int8", "int8-dynamic", "fp16"):
        convert(model, kind, {"x": samples()}, Session(model).inputs)
    assert model.SerializeToString(deterministic=True) == before


def test_a_model_without_anything_to_convert_is_refused():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Exp(x) }'
    )
    with pytest.raises(NotCompressibleError, match="no node of the model can be converted to int8-dynamic"):
        convert(model, "int8-dynamic", {})


def text_model(text, opset=17, **sizes):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


@pytest.mark.parametrize("kind", ["int8", "int8-dynamic", "fp16"])
def test_what_the_file_imports_and_who_made_it(kind):
    """The runtime that a user has may know the original's operators only."""
    model = chain()
    model.producer_name, model.producer_version = "trainer", "1.2"
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    made = convert(model, kind, {"x": samples()}, Session(model).inputs)
    assert {o.domain: o.version for o in made.opset_import} == {"": 17}
    assert (made.producer_name, made.producer_version) == ("trainer", "1.2")


def test_operators_in_subgraphs_are_imported():
    text = """net (float[N,6] x, bool p) => (float[N,3] y) { r = MatMul(x, w)
        h = If (p) <then_branch = t () => (float[N,6] c) { c = com.microsoft.Gelu(r) },
                    else_branch = e () => (float[N,6] k) { k = Tanh(r) }>
        y = MatMul(h, v) }"""
    model = text_model(text, w=(6, 6), v=(6, 3))
    model.opset_import.add(domain="com.microsoft", version=1)
    made = convert(model, "int8-dynamic", {})
    assert {o.domain for o in made.opset_import} == {"", "com.microsoft"}


def test_a_model_of_doubles_is_not_converted_to_float16():
    text = "net (double[N,6] x) => (double[N,3] y) { r = Relu(x)  y = MatMul(r, v) }"
    model = text_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 3)), "v"))
    with pytest.raises(NotCompressibleError, match="no node of the model can be converted to fp16"):
        convert(model, "fp16", {})


def test_a_model_of_float16_is_not_converted_to_it_again():
    model = text_model("net (float16[N,6] x) => (float16[N,3] y) { r = Relu(x)  y = MatMul(r, v) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 3), np.float16), "v"))
    with pytest.raises(NotCompressibleError, match="no node of the model can be converted to fp16"):
        convert(model, "fp16", {})


BRANCHES = {
    "reads an input": ("", "a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)"),
    "reads an activation": ("q = MatMul(x, w)  h = Relu(q)", "c = MatMul(h, v)"),
    "has a node without float16": ("", "a = MatMul(x, w)  o = Range(zero, six, one)  b = Add(a, o)  c = MatMul(b, v)"),
    "has one behind the other": (
        "",
        "a = MatMul(x, w)  b, i = TopK(a, k)  d, j = TopK(a, k)  e = Add(b, d)  f, g = TopK(e, k)  c = MatMul(f, v)",
    ),
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_branches_are_converted_to_float16(branch):
    before, inside = BRANCHES[branch]
    text = f"""net (float[N,6] x, bool p) => (float[N,3] y) <int64[1] k = {{6}}, float zero = {{0}}, float six = {{6}},
        float one = {{1}}> {{ {before}
        y = If (p) <then_branch = t () => (float[N,3] c) {{ {inside} }},
                    else_branch = e () => (float[N,3] z) {{ u = MatMul(x, w)  z = MatMul(u, v) }}> }}"""
    model = text_model(text, w=(6, 6), v=(6, 3))
    made = convert(model, "fp16", {})
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(1).standard_normal((5, 6), np.float32)
    for p in (True, False):
        feeds = {"x": x, "p": np.array(p)}
        np.testing.assert_allclose(Session(made).run(feeds)["y"], Session(model).run(feeds)["y"], atol=0.02)
    assert optimize(model, keep=1.0, then="fp16", gate=False)[0].graph.node


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_the_report_compares_both_steps_alone_and_together(tmp_path, kind):
    out = tmp_path / "out.onnx"
    options = {"keep": 0.6, "labels": MODELS / "digits_test.npz", "then": kind, "calib_samples": 64}
    made, result = optimize(MODELS / "digits_cnn.onnx", out, calib=MODELS / "digits_calib.npz", **options)
    original, compressed, converted, both = result.formats
    assert [one.name for one in result.formats] == ["original", "compressed", kind, f"compressed + {kind}"]
    assert both.bytes < min(compressed.bytes, converted.bytes) < original.bytes
    assert result.after.bytes == out.stat().st_size
    assert (original.accuracy, both.accuracy) == (result.accuracy.before, result.accuracy.after)
    assert both.nsr == result.fidelity.nsr and both.changed == result.fidelity.changed
    assert converted.nsr < compressed.nsr < 0.1
    assert onnx.load(out) == made
    assert kinds(made)["INT8" if kind == "int8" else "FLOAT16"]


def test_lossless_is_checked_before_the_conversion():
    model = chain()
    for name in ("w1", "b1"):  # two channels that are equal
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[1] = array[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    made, result = optimize(model, then="fp16", lossless=True)
    assert {g.name: g.kept for g in result.groups}["first"] == 7
    assert 0 < result.fidelity.nsr < 1e-4
    assert kinds(made)["FLOAT16"]


def test_without_samples_no_scales():
    with pytest.raises(UsageError, match="then int8 sets scales on samples and there are none: give calib"):
        optimize(chain(), keep=0.5, method="merge", calib="none", then="int8")


def test_an_unknown_format_is_refused(here, capsys):
    assert main(["in.onnx", "out.onnx", "--keep", "0.5", "--then", "int4"]) == 2
    assert "then must be one of int8, int8-dynamic, fp16" in capsys.readouterr().err


def test_the_table_on_the_screen_and_the_promise_of_the_file(tmp_path, capsys):
    out = tmp_path / "out.onnx"
    test = ["--labels", str(MODELS / "digits_test.npz"), "--calib", str(MODELS / "digits_calib.npz")]
    model = str(MODELS / "digits_cnn.onnx")
    arguments = [model, str(out), "--keep", "0.8", "--effort", "low", "--then", "int8", *test]
    assert main([*arguments, "--benchmark"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name}" in shown for name in ("original  ", "compressed  ", "int8  ", "compressed + int8  "))
    assert main(["verify", str(out), "--against", model, *test]) == 0
