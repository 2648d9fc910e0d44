"""Control flow, other number formats, quantisation, old opsets."""

import numpy as np
import onnx
from netcase import ARCHITECTURES, Architecture, add, conv, norm
from netkit import net, random_weight

add(
    "if-body",
    1,
    """net (float[N,3] x, bool flag) => (float[N,4] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w, b_b)  br = Relu(b)
        z = If(flag) <then_branch = yes () => (float[N,8] t) { t = Sigmoid(br) },
                      else_branch = no () => (float[N,8] u) { u = Mul(br, inner) }>
        c = Gemm<transB=1>(z, c_w, c_b)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w, y_b)
    }""",
    **conv("a", 12, 3), **conv("b", 8, 12), inner=(8,), **conv("c", 10, 8), **conv("y", 4, 10),
)  # fmt: skip
add(
    "float16",
    2,
    """net (float16[N,3,8,8] x) => (float16[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
        p = GlobalAveragePool(br)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    5e-3,
    **{k: random_weight(k, s).astype(np.float16) for k, s in {
        **conv("a", 12, 3, 3, 3), **conv("b", 16, 12, 3, 3), **conv("y", 10, 16)}.items()},
)  # fmt: skip
add(
    "float16-cast",
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        h = Cast<to=10>(x)  a = Conv<pads=[1,1,1,1]>(h, a_w, a_b)  ar = Relu(a)  s = Cast<to=1>(ar)
        b = Conv<pads=[1,1,1,1]>(s, b_w, b_b)  br = Relu(b)  p = GlobalAveragePool(br)  f = Flatten(p)
        y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    5e-3,
    **{k: random_weight(k, s).astype(np.float16) for k, s in conv("a", 12, 3, 3, 3).items()},
    **conv("b", 16, 12, 3, 3), **conv("y", 10, 16),
)  # fmt: skip
add(
    "quantised-weights",
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        aw = DequantizeLinear<axis=0>(a_q, a_qs, a_zero)  a = Conv<pads=[1,1,1,1]>(x, aw, a_b)  ar = Relu(a)
        aq = QuantizeLinear(ar, t_qs, t_zero)  ad = DequantizeLinear(aq, t_qs, t_zero)
        bw = DequantizeLinear<axis=0>(b_q, b_qs, b_zero)  b = Conv<pads=[1,1,1,1]>(ad, bw, b_b)  br = Relu(b)
        p = GlobalAveragePool(br)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    a_q=np.random.default_rng(5).integers(-90, 90, (12, 3, 3, 3)).astype(np.int8), a_b=(12,),
    a_qs=np.random.default_rng(6).uniform(0.004, 0.01, 12).astype(np.float32), a_zero=np.zeros(12, np.int8),
    t_qs=np.array(0.02, np.float32), t_zero=np.array(3, np.uint8),
    b_q=np.random.default_rng(7).integers(-90, 90, (16, 12, 3, 3)).astype(np.int8), b_b=(16,),
    b_qs=np.random.default_rng(8).uniform(0.002, 0.005, 16).astype(np.float32), b_zero=np.zeros(16, np.int8),
    **conv("y", 10, 16),
)  # fmt: skip
add(
    "transposed-gemm",  # features first: the weights are the left operand
    3,
    """net (float[6,N] x) => (float[4,N] y) {
        a = MatMul(a_w, x)  ab = Add(a, a_col)  ar = Relu(ab)  b = Gemm(b_w, ar, b_col)  br = Relu(b)
        c = Gemm<transA=1>(c_w, br, c_col)  cr = Relu(c)  y = MatMul(y_w, cr)
    }""",
    a_w=(12, 6), a_col=(12, 1), b_w=(10, 12), b_col=(10, 1), c_w=(10, 8), c_col=(8, 1), y_w=(4, 8),
)  # fmt: skip


def _old_style():
    """Opset 9, IR 3: initializers are graph inputs too; Reshape, Upsample and Slice as they were."""
    model = net(
        """net (float[N,3,8,8] x) => (float[N,10] y) {
            a = Conv<pads=[1,1,1,1]>(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)
            s = Slice<axes=[1], starts=[2], ends=[10]>(r)  u = Upsample<mode="nearest">(s, scales)
            d = Dropout<ratio=0.5>(u)  c = Conv(d, c_w, c_b)  k = Clip<min=0.0, max=6.0>(c)
            l, m = Split<axis=1, split=[6, 10]>(k)  p = Conv(m, p_w)  pl = Concat<axis=1>(l, p)
            q = Pad<mode="constant", pads=[0,2,0,0,0,0,0,0]>(pl)
            g = ReduceMean<axes=[2,3], keepdims=0>(q)  y = Gemm<transB=1>(g, y_w, y_b)
        }""",
        opset=9, ir_version=3, a_w=(12, 3, 3, 3), **norm("n", 12), scales=np.float32([1, 1, 2, 2]),
        **conv("c", 16, 8, 1, 1), p_w=(8, 10, 1, 1), **conv("y", 10, 16),
    )  # fmt: skip
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


ARCHITECTURES["old-style"] = Architecture(_old_style(), 3)
