"""Networks in float16 and bfloat16: cut and merged in their own type, computed by onnx's reference implementation.

Rounding is the only freedom, and zeros do not round: the twin is equal to the last bit or nearly so.
"""

import ml_dtypes
import numpy as np
import onnx
import pytest
from netcase import conv, norm
from netkit import TOLERANCE, array_of, difference, net, random_weight, shape_of, twin_check
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from onnx_merge import optimize

TYPES = {"float16": (TensorProto.FLOAT16, np.float16), "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
CONV = """net (float[N,3,8,8] x) => (float[N,10] y) {
    h = Cast<to=TYPE>(x)  a = Conv<pads=[1,1,1,1]>(h, a_w)  an = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)
    ar = Relu(an)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  bs = Add(b, b_k)  br = LeakyRelu(bs)
    d = Conv<group=16, pads=[1,1,1,1]>(br, d_w)  p = GlobalAveragePool(d)  f = Flatten(p)
    g = Gemm<transB=1>(f, g_w, g_b)  gr = PRelu(g, slope)  yh = Gemm<transB=1>(gr, y_w, y_b)  y = Cast<to=1>(yh)
}"""
MATMUL = """net (float[N,6] x) => (float[N,10] y) {
    h = Cast<to=TYPE>(x)  a = MatMul(h, a_w)  ab = Add(a, a_b)  ar = Relu(ab)
    b = MatMul(ar, b_w)  bs = Mul(b, b_scale)  bb = Add(bs, b_b)  br = Sigmoid(bb)
    c = MatMul(br, c_w)  cr = Relu(c)  s = MatMul(ar, s_w)  t = Add(cr, s)  yh = MatMul(t, y_w)  y = Cast<to=1>(yh)
}"""
MIDDLE = """net (float[N,3,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w, a_b)  ar = Relu(a)  h = Cast<to=TYPE>(ar)  b = Conv(h, half_w, half_b)  bf = Cast<to=1>(b)
    c = Conv(ar, c_w, c_b)  s = Add(bf, c)  sr = Relu(s)  y = Conv(sr, y_w, y_b)
}"""
NETS = {
    "conv": (CONV, 3, {"a_w": (12, 3, 3, 3), **norm("n", 12), **conv("b", 16, 12, 3, 3), "b_k": (1, 16, 1, 1),
                       "d_w": (16, 1, 3, 3), **conv("g", 14, 16), "slope": (14,), **conv("y", 10, 14)}),
    "matmul": (MATMUL, 3, {"a_w": (6, 12), "a_b": (12,), "b_w": (12, 16), "b_scale": (16,), "b_b": (16,),
                           "c_w": (16, 14), "s_w": (12, 14), "y_w": (14, 10)}),
    "middle": (MIDDLE, 2, {**conv("a", 12, 3, 1, 1), **conv("half", 8, 12, 1, 1), **conv("c", 8, 12, 1, 1),
                           **conv("y", 5, 8, 1, 1)}),
}  # fmt: skip
"""By name: the text, how many groups shrink, the weights; in the last one only those called half are."""


def half(name, type_):
    elem, dtype = TYPES[type_]
    text, groups, shapes = NETS[name]
    weights = {k: random_weight(k, shape) for k, shape in shapes.items()}
    weights = {k: w.astype(dtype) if name != "middle" or k.startswith("half") else w for k, w in weights.items()}
    return net(text.replace("TYPE", str(elem)), opset=22, ir_version=10, **weights), groups


@pytest.mark.parametrize("settings", [{"keep": 0.5}, {"keep": 0.3, "method": "prune"}], ids=["merge", "prune"])
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("name", NETS)
def test_half_precision(name, type_, settings):
    model, groups = half(name, type_)
    result = twin_check(model, start=ReferenceEvaluator, **settings)
    assert sum(p.shrinks for p in result.plans) == groups
    for tensor in result.model.graph.initializer:
        given = next((t.data_type for t in model.graph.initializer if t.name == tensor.name), TYPES[type_][0])
        assert tensor.data_type == given, tensor.name
    assert shape_of(result.model, "a_w") != shape_of(model, "a_w")


@pytest.mark.parametrize("type_", TYPES)
def test_pruning_takes_the_bits_as_they_are(type_):
    model, _ = half("matmul", type_)
    result = twin_check(model, start=ReferenceEvaluator, keep=0.5, method="prune")
    (plan,) = [p for p in result.plans if p.group.name == "a"]
    weight = array_of(result.model, "a_w")
    assert weight.dtype == TYPES[type_][1]
    np.testing.assert_array_equal(weight, array_of(model, "a_w")[:, plan.keep])


def test_float16_runs_as_well():
    """onnxruntime computes it in float32 and rounds: other sums may round otherwise."""
    model, _ = half("conv", "float16")
    assert twin_check(model, 5e-3, keep=0.5).shrinks


def test_what_onnxruntime_cannot_run_is_compressed_unchecked():
    """Its processors' kernels know no bfloat16, others' may."""
    model, _ = half("matmul", "bfloat16")
    smaller, result = optimize(model, keep=0.5, unverified=True)
    onnx.checker.check_model(smaller, full_check=True)
    assert (result.fidelity is None) == any("outputs were not compared" in note for note in result.notes)
    assert result.after.params < 0.5 * result.before.params
    assert difference(model, smaller, start=ReferenceEvaluator) > TOLERANCE


def test_a_gate_over_channels_whose_filter_is_dequantised():
    """The zeros put in where channels went have the type of the filter as it is used, not as it is stored."""
    body = """net (float16[N,8,4,4] x) => (float16[N,4] y) {
        a = Conv(x, a_w)  ar = Relu(a)  p = GlobalAveragePool(ar)  s = Reshape(p, line)
        k = DequantizeLinear(k_q, k_s)  c = Conv<pads=[1,1]>(s, k)  g = Sigmoid(c)  t = Reshape(g, square)
        m = Mul(ar, t)  b = Conv(m, b_w)  q = GlobalAveragePool(b)  y = Flatten(q)
    }"""
    weights = {k: random_weight(k, s).astype(np.float16) for k, s in {"a_w": (8, 8, 1, 1), "b_w": (4, 8, 1, 1)}.items()}
    weights |= dict(k_q=np.array([[[50, 100, -30]]], np.int8), k_s=np.array(0.01, np.float16))
    weights |= dict(line=np.array([0, 1, -1]), square=np.array([0, -1, 1, 1]))
    model = net(body, opset=21, ir_version=10, **weights)
    result = twin_check(model, tolerance=2e-3, start=ReferenceEvaluator, keep=0.5)
    assert shape_of(result.model, "a_w") == (4, 8, 1, 1)
