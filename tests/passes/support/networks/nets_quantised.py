"""Networks whose weights are stored in few bits: QDQ pairs as quantisers write them."""

import ml_dtypes
import numpy as np
from netcase import ARCHITECTURES, Architecture, conv
from netkit import net

UINT8 = {"x_s": np.array(0.03, np.float32), "x_z": np.array(128, np.uint8)}


def codes(seed, shape, dtype=np.int8, low=-90, high=90):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def scales(seed, *shape, low=0.004, high=0.01):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def layer(name, shape, axis, dtype=np.int8, per_channel=True, low=-90, high=90, zero=0, inputs=0.03):
    """Weights, and where they are those of a Conv or Gemm (axis 0) a bias, as integers with scales and zero points."""
    seed, n = sum(map(ord, name)), shape[axis]
    scale = scales(seed, n) if per_channel else np.array(0.007, np.float32)
    weights = {f"{name}_q": codes(seed, shape, dtype, low, high), f"{name}_s": scale}
    weights[f"{name}_z"] = np.full(scale.shape, zero, dtype)
    bias = {
        f"{name}_bq": codes(seed + 1, n, np.int32, -2000, 2000),
        f"{name}_bs": np.asarray(inputs * scale, np.float32),
    }
    bias[f"{name}_bz"] = np.zeros(scale.shape, np.int32)
    return weights | (bias if axis == 0 else {})


def activations(name, scale, zero=3):
    return {f"{name}_s": np.array(scale, np.float32), f"{name}_z": np.array(zero, np.uint8)}


CONVS = """net (float[N,3,8,8] x) => (float[N,10] y) {
    xq = QuantizeLinear(x, x_s, x_z)  xd = DequantizeLinear(xq, x_s, x_z)
    aw = DequantizeLinear<axis=0>(a_q, a_s, a_z)  ab = DequantizeLinear<axis=0>(a_bq, a_bs, a_bz)
    a = Conv<pads=[1,1,1,1]>(xd, aw, ab)  ar = Relu(a)
    aq = QuantizeLinear(ar, t_s, t_z)  ad = DequantizeLinear(aq, t_s, t_z)
    dw = DequantizeLinear<axis=0>(d_q, d_s, d_z)  d = Conv<group=12, pads=[1,1,1,1]>(ad, dw)
    dq = QuantizeLinear(d, u_s, u_z)  dd = DequantizeLinear(dq, u_s, u_z)  s = Add(ad, dd)
    bw = DequantizeLinear<axis=0>(b_q, b_s, b_z)  bb = DequantizeLinear<axis=0>(b_bq, b_bs, b_bz)
    b = Conv<pads=[1,1,1,1]>(s, bw, bb)  bq = QuantizeLinear(b, t_s, t_z)  bm = MaxPool<kernel_shape=[2,2]>(bq)
    bd = DequantizeLinear(bm, t_s, t_z)  p = GlobalAveragePool(bd)  f = Flatten(p)
    gw = DequantizeLinear<axis=0>(g_q, g_s, g_z)  gb = DequantizeLinear<axis=0>(g_bq, g_bs, g_bz)
    g = Gemm<transB=1>(f, gw, gb)  gq = QuantizeLinear(g, v_s, v_z)  y = DequantizeLinear(gq, v_s, v_z)
}"""
MATMULS = """net (float[N,6] x) => (float[N,4] y) {
    xq = QuantizeLinear(x, x_s, x_z)  xd = DequantizeLinear(xq, x_s, x_z)
    aw = DequantizeLinear<axis=1>(a_q, a_s, a_z)  a = MatMul(xd, aw)  ab = Add(a, a_b)  ar = Relu(ab)
    aq = QuantizeLinear(ar, t_s, t_z)  ad = DequantizeLinear(aq, t_s, t_z)
    bw = DequantizeLinear<axis=AXIS>(b_q, b_s, b_z)  b = MatMul(ad, bw)  bb = Add(b, b_b)  br = Relu(bb)
    bq = QuantizeLinear(br, t_s, t_z)  bd = DequantizeLinear(bq, t_s, t_z)
    yw = DequantizeLinear<axis=1>(y_q, y_s, y_z)  y = MatMul(bd, yw)
}"""
FEW_BITS = """net (float[N,6] x) => (float[N,4] y) {
    aw = DequantizeLinear<axis=1>(a_q, a_s)  a = MatMul(x, aw)  ar = Relu(a)
    bw = DequantizeLinear<axis=1>(b_q, b_s)  b = MatMul(ar, bw)  br = Relu(b)  y = MatMul(br, y_w)
}"""
TIED = """net (int64[N,5] i) => (float[N,5,300] y) {
    ew = DequantizeLinear<axis=0>(e_q, e_s)  e = Gather<axis=0>(ew, i)  a = MatMul(e, a_w)  ar = Relu(a)
    b = MatMul(ar, b_w)  s = Add(e, b)  t = Transpose<perm=[1,0]>(ew)  y = MatMul(s, t)
}"""
FAKE = """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    aq = QuantizeLinear<axis=0>(a_w, a_s, a_z)  aw = DequantizeLinear<axis=0>(aq, a_s, a_z)  a = Conv(x, aw, a_b)
    ar = Relu(a)  arq = QuantizeLinear(ar, t_s, t_z)  ad = DequantizeLinear(arq, t_s, t_z)
    bq = QuantizeLinear<axis=0>(b_w, b_s, b_z)  bw = DequantizeLinear<axis=0>(bq, b_s, b_z)  b = Conv(ad, bw, b_b)
    br = Relu(b)  y = Conv(br, y_w, y_b)
}"""


def convs(**how):
    layers = {"a": (12, 3, 3, 3), "d": (12, 1, 3, 3), "b": (16, 12, 3, 3), "g": (10, 16)}
    weights = {k: v for name, shape in layers.items() for k, v in layer(name, shape, 0, **how).items()}
    weights = {k: v for k, v in weights.items() if not k.startswith("d_b")}
    return weights | activations("t", 0.05) | activations("u", 0.1) | activations("v", 0.004, 128)


def matmuls(axis=1, **how):
    weights = layer("a", (6, 12), 1, **how) | layer("b", (12, 16), axis, **how) | layer("y", (16, 4), 1, **how)
    weights = {k: v for k, v in weights.items() if "_b" not in k}
    return weights | activations("t", 0.05) | {"a_b": (12,), "b_b": (16,)}


def few_bits(dtype):
    weights = {"a_q": codes(1, (6, 12), dtype, 0, 7), "b_q": codes(2, (12, 16), dtype, 0, 7), "y_w": (16, 4)}
    return weights | {"a_s": scales(3, 12), "b_s": scales(4, 16)}


def tied():
    return {"e_q": codes(1, (300, 16)), "e_s": scales(2, 300), "a_w": (16, 24), "b_w": (24, 16)}


def fake():
    zeros = {"a_z": np.zeros(12, np.int8), "b_z": np.zeros(8, np.int8), "a_s": scales(1, 12), "b_s": scales(2, 8)}
    return zeros | activations("t", 0.05) | conv("a", 12, 3, 1, 1) | conv("b", 8, 12, 1, 1) | conv("y", 4, 8, 1, 1)


OFFSET = {"dtype": np.uint8, "low": 20, "high": 230, "zero": 125}
MODELS = {
    "qdq-channels": net(CONVS, **convs(), **UINT8),
    "qdq-tensor": net(CONVS.replace("<axis=0>", ""), **convs(per_channel=False), **UINT8),
    "qdq-tensor-offset": net(CONVS.replace("<axis=0>", ""), **convs(per_channel=False, **OFFSET), **UINT8),
    "qdq-matmul": net(MATMULS.replace("AXIS", "-1"), **matmuls(zero=7), **UINT8),
    "qdq-matmul-inputs": net(MATMULS.replace("AXIS", "0"), **matmuls(0, **OFFSET), **UINT8),
    "qdq-fake": net(FAKE, **fake()),
    "qdq-tied": net(TIED, **tied()),
}
"""Scales of output channels, of the whole tensor, with zero points far from zero, of input channels; weights that are
stored in float and rounded when the model runs; an embedding that is the last layer too."""
for type_ in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn):
    MODELS[f"qdq-{type_.__name__}"] = net(FEW_BITS, opset=21, ir_version=10, **few_bits(type_))
ARCHITECTURES.update({name: Architecture(model, 2) for name, model in MODELS.items()})
