"""Networks with bodies: what If, Loop and Scan capture stays whole, the rest shrinks."""

import numpy as np
from netcase import add, conv

add(
    "if-weights",  # one branch has convolutions of its own and reads the weights of a layer outside
    2,
    """net (float[N,3,8,8] x, bool flag) => (float[N,4,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
        z = If(flag) <then_branch = yes () => (float[N,8,8,8] t) {
                          i = Conv<pads=[1,1,1,1]>(br, i_w, i_b)  ir = Relu(i)  j = Conv(ir, j_w, j_b)
                          k = Conv(j, c_w, c_b)  kr = Tanh(k)  l = Conv(kr, l_w)  t = Add(l, br) },
                      else_branch = no () => (float[N,8,8,8] u) { u = Neg(br) }>
        c = Conv(z, c_w, c_b)  cr = Relu(c)  d = Conv(cr, d_w, d_b)  dr = Relu(d)  y = Conv(dr, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("b", 8, 12, 3, 3), **conv("i", 6, 8, 3, 3), **conv("j", 8, 6, 1, 1),
    **conv("c", 10, 8, 1, 1), l_w=(8, 10, 1, 1), **conv("d", 9, 10, 1, 1), **conv("y", 4, 9, 1, 1),
)  # fmt: skip
add(
    "loop",
    2,
    """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w, b_b)  br = Relu(b)
        k = Gemm<transB=1>(ar, k_w)
        z, all = Loop(three, always, br) <body = step (int64 i, bool go, float[N,8] h) =>
            (bool more, float[N,8] next, float[N,8] out) {
                more = Identity(go)  m = MatMul(h, r_w)  s = Add(m, k)  next = Tanh(s)  out = Identity(next) }>
        c = Gemm<transB=1>(z, c_w, c_b)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w, y_b)
    }""",
    three=np.array(3, np.int64), always=np.array(True), **conv("a", 12, 6), **conv("b", 8, 12), r_w=(8, 8),
    k_w=(8, 12), **conv("c", 10, 8), **conv("y", 4, 10),
)  # fmt: skip
add(
    "scan",
    2,
    """net (float[5,N,6] x) => (float[N,4] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  g = ReduceMean<axes=[0], keepdims=0>(b)  br = Relu(b)
        h, all = Scan(g, br) <num_scan_inputs=1, body = step (float[N,8] state, float[N,8] row) =>
            (float[N,8] next, float[N,8] out) {
                m = MatMul(state, r_w)  s = Add(m, row)  next = Tanh(s)  out = Mul(next, g) }>
        c = Gemm<transB=1>(h, c_w, c_b)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w, y_b)
    }""",
    a_w=(6, 12), b_w=(12, 8), r_w=(8, 8), **conv("c", 10, 8), **conv("y", 4, 10),
)  # fmt: skip
add(
    "nested-bodies",  # what the inner body reads is captured by the outer one too
    2,
    """net (float[N,6] x, bool flag) => (float[N,4] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w, b_b)  br = Relu(b)
        d = Gemm<transB=1>(br, d_w, d_b)  dr = Relu(d)
        z = Loop(three, always, dr) <body = step (int64 i, bool go, float[N,8] h) => (bool more, float[N,8] next) {
            more = Identity(go)
            next = If(flag) <then_branch = yes () => (float[N,8] t) { m = Gemm<transB=1>(br, d_w, d_b)  t = Add(m, h) },
                             else_branch = no () => (float[N,8] u) { u = Identity(h) }> }>
        c = Gemm<transB=1>(z, c_w, c_b)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w, y_b)
    }""",
    three=np.array(3, np.int64), always=np.array(True), **conv("a", 12, 6), **conv("b", 9, 12), **conv("d", 8, 9),
    **conv("c", 10, 8), **conv("y", 4, 10),
)  # fmt: skip
add(
    "if-squeeze",  # PyTorch's squeeze(3) of a tensor whose size it did not know
    1,
    """net (float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  p = GlobalAveragePool(ar)  sizes = Shape(p)
        size = Gather<axis=0>(sizes, i3)  single = Equal(size, i1)
        z = If(single) <then_branch = yes () => (float[] t) { at = Constant<value_ints=[3]>()  t = Squeeze(p, at) },
                        else_branch = no () => (float[] u) { u = Identity(p) }>
        f = Flatten(z)  g = Gemm<transB=1>(f, g_w, g_b)  gr = Relu(g)  y = Gemm<transB=1>(gr, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), i3=np.array(3, np.int64), i1=np.array(1, np.int64), **conv("g", 10, 12),
    **conv("y", 4, 10),
)  # fmt: skip
