"""What onnxruntime's optimizer fused is taken apart, computes the same, and is fused again."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from netkit import difference, engine, filled, shape_of, twin_check

from passes.axes import registry
from passes.axes.rules.elementwise import same_axes
from passes.transforms.canonicalize import canonicalize

CONV = "net (float[N,3,6,6] x) => (float[N,4,6,6] y) {{ y = com.microsoft.FusedConv<pads=[1,1,1,1], {}>({}) }}"
CONV_WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "u": (4, 3, 1, 1)}
GEMM = "net (float[N,6] x) => (float[N,4] y) {{ y = com.microsoft.FusedGemm<transB=1, beta=0.5, {}>(x, w, b) }}"
MATMUL = "net (float[N,5,6] x) => (float[N,{}] y) {{ y = com.microsoft.FusedMatMul<{}>({}) }}"
VALUES = "net (float[N,5,6] x) => (float[N,5,6] y) {{ a = MatMul(x, w)  y = com.microsoft.{} }}"
NORM = "net (float[N,5,6] x) => ({}) {{ s = Neg(x)  {} = com.microsoft.{} }}"
BERT = """net (float[N,5,8] x) => (float[N,5,8] y) {
    q = MatMul(x, wq)  k = MatMul(x, wk)  scores = com.microsoft.FusedMatMul<alpha=0.4, transB=1>(q, k)
    p = Softmax(scores)  v = MatMul(p, x)
    n = com.microsoft.SkipLayerNormalization<epsilon=0.00001>(v, x, g, b, c)
    h = MatMul(n, w1)  [act] a = com.microsoft.BiasGelu(h, b1)  f = MatMul(a, w2)
    o, , , t = com.microsoft.SkipLayerNormalization<epsilon=0.00001>(f, n, g, b, c)
    r = com.microsoft.QuickGelu<alpha=1.5>(t)  y = Add(o, r)
}"""
BERT_WEIGHTS = {
    **dict.fromkeys(("wq", "wk"), (8, 8)), **dict.fromkeys("gbc", (8,)), "w1": (8, 16), "b1": (16,), "w2": (16, 8),
}  # fmt: skip


def fused(body, opset=17, **weights):
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> '
    return filled(onnx.parser.parse_model(head + body), weights)


def ops(model):
    return [node.op_type for node in model.graph.node]


def apart(model):
    before = model.SerializeToString(deterministic=True)
    result = canonicalize(model, engine)
    assert model.SerializeToString(deterministic=True) == before
    assert difference(model, result) < 1e-6
    return ops(result)


@pytest.mark.parametrize(
    ("attributes", "inputs", "expected"),
    [
        ("group=1", "x, w", ["Conv"]),
        ('activation="Relu"', "x, w", ["Conv", "Relu"]),
        ('activation="Sigmoid"', "x, w, b", ["Conv", "Sigmoid"]),
        ('activation="LeakyRelu", activation_params=[0.2]', "x, w, b", ["Conv", "LeakyRelu"]),
        ('activation="Clip", activation_params=[-0.1, 0.3]', "x, w, b", ["Conv", "Clip"]),
        ('activation="HardSigmoid", activation_params=[0.3, 0.4]', "x, w, b", ["Conv", "HardSigmoid"]),
        ('activation="Tanh", group=1', "x, w, b", ["Conv", "Tanh"]),
    ],
)
@pytest.mark.parametrize("opset", [9, 17])
def test_convolutions(attributes, inputs, expected, opset):
    assert apart(fused(CONV.format(attributes, inputs), opset, **CONV_WEIGHTS)) == expected


def test_a_convolution_with_a_residual_sum():
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) { z = Conv(x, u)
        y = com.microsoft.FusedConv<pads=[1,1,1,1], activation="Relu">(x, w, b, z) }"""
    assert apart(fused(body, **CONV_WEIGHTS)) == ["Conv", "Conv", "Add", "Relu"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('activation="Relu"', "Relu"),
        ('activation="Elu", activation_alpha=0.7', "Elu"),
        ('activation="HardSigmoid", activation_alpha=0.3, activation_beta=0.6', "HardSigmoid"),
        ('activation="LeakyRelu", activation_alpha=0.3', "LeakyRelu"),
    ],
)
def test_dense_layers(attributes, expected):
    assert apart(fused(GEMM.format(attributes), w=(4, 6), b=(4,))) == ["Gemm", expected]


@pytest.mark.parametrize(
    ("out", "attributes", "inputs", "expected"),
    [
        ("5,4", "alpha=0.5", "x, v", ["MatMul", "Mul"]),
        ("5,4", "transB=1", "x, w", ["MatMul"]),  # the transposed weight is a constant
        ("5,5", "transB=1, alpha=0.5", "x, x", ["Transpose", "MatMul", "Mul"]),
        ("6,6", "transA=1, transB=0", "x, x", ["Transpose", "MatMul"]),
        ("5", "transB=1", "x, b", ["MatMul"]),
    ],
)
def test_matrix_products(out, attributes, inputs, expected):
    assert apart(fused(MATMUL.format(out, attributes, inputs), w=(4, 6), v=(6, 4), b=(6,))) == expected


@pytest.mark.parametrize("op", ["Gelu(a)", "BiasGelu(a, b)", "FastGelu(a)", "FastGelu(a, b)", "QuickGelu(a)"])
@pytest.mark.parametrize("opset", [12, 20])
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_gelus(op, opset, kind):
    model = fused(VALUES.replace("float[", f"{kind}[").format(op), opset, w=(6, 6), b=(6,))
    if kind == "float16":
        for tensor in model.graph.initializer:
            narrow = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(narrow, tensor.name))
        assert not any(node.domain for node in canonicalize(model, engine).graph.node)
        return
    found = apart(model)
    assert ("Gelu" in found) == (opset == 20 and "Quick" not in op) and ("Add" in found) >= ("b)" in op)


def test_silu():
    assert apart(fused(VALUES.format("QuickGelu<alpha=1.0>(a)"), w=(6, 6))) == ["MatMul", "Sigmoid", "Mul"]


@pytest.mark.parametrize(
    ("outputs", "names", "op", "expected"),
    [
        ("float[N,5,6] y", "y", "SkipLayerNormalization(x, s, g, b)", ["Add", "LayerNormalization"]),
        ("float[N,5,6] y", "y", "SkipLayerNormalization(x, s, g)", ["Add", "LayerNormalization"]),
        ("float[N,5,6] y, float[N,5,6] t", "y, , , t", "SkipLayerNormalization<epsilon=0.1>(x, s, g, b, c)",
         ["Add", "Add", "LayerNormalization"]),
        ("float[N,5,6] y, float[N,5,6] t", "y, , , t", "SkipSimplifiedLayerNormalization(x, s, g, c)",
         ["Add", "Add", "SimplifiedLayerNormalization"]),
    ],
)  # fmt: skip
def test_norms_of_sums(outputs, names, op, expected):
    assert apart(fused(NORM.format(outputs, names, op), g=(6,), b=(6,), c=(6,))) == ["Neg", *expected]


def test_what_one_hides_is_found_in_the_next_round():
    """The type of QuickGelu's input and the ranks of FusedMatMul's are behind other fused ops."""
    found = apart(fused(BERT, **BERT_WEIGHTS))
    assert found.count("LayerNormalization") == 2 and found.count("Sigmoid") == 1 and "Erf" in found


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (CONV.format('activation="Square"', "x, w, b"), "FusedConv"),
        (MATMUL.format("A,B,C", "transBatchA=1", "x, w"), "FusedMatMul"),
        (NORM.format("float[N,5,6] y, float[N,5,1] m", "y, m", "SkipLayerNormalization(x, s, g, b)"),
         "SkipLayerNormalization"),
    ],
)  # fmt: skip
def test_forms_that_stay(body, left):
    assert left in ops(canonicalize(fused(body, w=(4, 3, 3, 3), b=(6,), g=(6,))))


def test_an_op_with_a_rule_stays(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", {**registry.rules(), ("com.microsoft", "QuickGelu"): same_axes})
    assert ops(canonicalize(fused(VALUES.format("QuickGelu(a)"), w=(6, 6)))) == ["MatMul", "QuickGelu"]


def optimised(model, path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


@pytest.mark.parametrize("opset", [17, 20])
def test_they_are_fused_again(opset, tmp_path):
    """But for sums that others read, too: the optimizer does not make the form that gives them."""
    model = fused(BERT.replace("o, , , t =", "o =").replace("(t)", "(n)"), opset, **BERT_WEIGHTS)
    again = optimised(canonicalize(model, engine), tmp_path / "again.onnx")
    assert Counter(ops(again)) == Counter(ops(optimised(model, tmp_path / "model.onnx")))
    assert {"BiasGelu", "SkipLayerNormalization", "QuickGelu", "FusedMatMul"} <= {*ops(again)}


@pytest.mark.parametrize("method", ["prune", "merge"])
def test_channels_of_fused_layers_go(method):
    body = """net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
        a = com.microsoft.FusedConv<activation="Relu">(x, w, b)  y = Conv(a, v) }"""
    model = fused(body, w=(8, 3, 1, 1), b=(8,), v=(5, 8, 1, 1))
    assert shape_of(twin_check(model, keep=0.5, method=method).model, "w") == (4, 3, 1, 1)
    plans = twin_check(fused(BERT, **BERT_WEIGHTS), keep=0.5, method=method).plans
    assert {plan.group.size for plan in plans if plan.shrinks} == {8, 16}, "those of the scores, and the hidden ones"


def test_behind_an_op_that_stays():
    """Whose result has no type that ONNX's shape inference finds."""
    body = """net (float[N,5,6] x) => (float[N,5,6] y) {
        t = com.microsoft.Attention<num_heads=2>(x, wa, ba)  h = MatMul(t, w)  y = com.microsoft.QuickGelu(h) }"""
    assert apart(fused(body, wa=(6, 18), ba=(18,), w=(6, 6))) == ["Attention", "MatMul", "Mul", "Sigmoid", "Mul"]
    behind = body.replace("y = com.microsoft.QuickGelu(h)", "y = com.microsoft.BiasGelu(t, b)").replace(
        "h = MatMul(t, w)", ""
    )
    assert apart(fused(behind, wa=(6, 18), ba=(18,), b=(6,))).count("Erf") == 1
