"""Convolutional networks, by how their layers are joined."""

import numpy as np
from netcase import add, conv, norm
from netkit import ints

add(
    "conv-bn-relu",
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  an = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  ar = Relu(an)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = LeakyRelu<alpha=0.1>(b)
        bp = MaxPool<kernel_shape=[2,2], strides=[2,2]>(br)
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(bp, c_w, c_b)  cr = Clip(c, zero)  cp = GlobalAveragePool(cr)
        f = Flatten(cp)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    a_w=(12, 3, 3, 3), **norm("n", 12), **conv("b", 16, 12, 3, 3), **conv("c", 14, 16, 3, 3), **conv("y", 10, 14),
    zero=np.array(0, np.float32),
)  # fmt: skip
add(
    "batchnorm-first",  # pre-activation: the norm stands before the Relu and cannot be folded
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)
        n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  nr = Relu(n)  b = Conv<pads=[1,1,1,1]>(nr, b_w, b_b)
        s = Add(a, b)
        m = BatchNormalization(s, m_scale, m_bias, m_mean, m_var)  mr = Relu(m)  c = Conv(mr, c_w, c_b)
        o = BatchNormalization(c, o_scale, o_bias, o_mean, o_var)  d = Conv(o, d_w, d_b)
        p = ReduceMean<axes=[2,3], keepdims=0>(d)  y = Gemm(p, y_w, y_b)
    }""",
    a_w=(12, 3, 3, 3), **norm("n", 12), **conv("b", 12, 12, 3, 3), **norm("m", 12), **conv("c", 8, 12, 1, 1),
    **norm("o", 8), **conv("d", 6, 8, 1, 1), y_w=(6, 10), y_b=(10,),
)  # fmt: skip
add(
    "residual",
    4,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)  c = Conv<pads=[1,1,1,1]>(br, c_w, c_b)
        s = Add(c, ar)  sr = Relu(s)
        d = Conv<pads=[1,1,1,1], strides=[2,2]>(sr, d_w, d_b)  dr = Relu(d)  e = Conv<pads=[1,1,1,1]>(dr, e_w, e_b)
        k = Conv<strides=[2,2]>(sr, k_w, k_b)  t = Add(e, k)  tr = Relu(t)
        p = GlobalAveragePool(tr)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("b", 8, 12, 3, 3), **conv("c", 12, 8, 3, 3), **conv("d", 10, 12, 3, 3),
    **conv("e", 16, 10, 3, 3), **conv("k", 16, 12, 1, 1), **conv("y", 10, 16),
)  # fmt: skip
add(
    "dense-concat",
    3,
    """net (float[N,3,8,8] x) => (float[N,5,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
        ab = Concat<axis=1>(ar, br)  abn = BatchNormalization(ab, n_scale, n_bias, n_mean, n_var)  abr = Relu(abn)
        c = Conv<pads=[1,1,1,1]>(abr, c_w, c_b)  abc = Concat<axis=1>(ab, c)
        m = Relu(abc)  y = Conv(m, y_w, y_b)
    }""",
    **conv("a", 10, 3, 3, 3), **conv("b", 8, 10, 3, 3), **norm("n", 18), **conv("c", 6, 18, 3, 3), **conv("y", 5, 24,
    1, 1),
)  # fmt: skip
add(
    "squeeze-excite",
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  s = Sigmoid(a)  ar = Mul(a, s)
        p = GlobalAveragePool(ar)  r = Conv(p, r_w, r_b)  rr = Relu(r)  e = Conv(rr, e_w, e_b)  g = HardSigmoid(e)
        m = Mul(ar, g)  b = Conv(m, b_w, b_b)  br = HardSwish(b)
        q = ReduceMean<axes=[-1,-2], keepdims=0>(br)  y = Gemm<transB=1>(q, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("r", 6, 12, 1, 1), **conv("e", 12, 6, 1, 1), **conv("b", 8, 12, 1, 1),
    **conv("y", 10, 8),
)  # fmt: skip
add(
    "depthwise",
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        d = Conv<group=12, pads=[1,1,1,1]>(ar, d_w)  dn = BatchNormalization(d, n_scale, n_bias, n_mean, n_var)
        dr = Relu(dn)
        p = Conv(dr, p_w, p_b)  m = Conv<group=16>(p, m_w, m_b)  q = GlobalMaxPool(m)  f = Flatten(q)
        y = Gemm<transB=1, alpha=0.5, beta=2.0>(f, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), d_w=(12, 1, 3, 3), **norm("n", 12), **conv("p", 16, 12, 1, 1),
    **conv("m", 32, 1, 3, 3), **conv("y", 10, 32),
)  # fmt: skip
add(
    "grouped",
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  g = Conv<group=4, pads=[1,1,1,1]>(ar, g_w, g_b)
        gr = Relu(g)
        h = Conv<group=2>(gr, h_w, h_b)  hr = Relu(h)  p = GlobalAveragePool(hr)  f = Flatten(p)
        y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    **conv("a", 16, 3, 3, 3), **conv("g", 24, 4, 3, 3), **conv("h", 8, 12, 1, 1), **conv("y", 10, 8),
)  # fmt: skip
add(
    "channel-shuffle",  # ShuffleNet v2: halves, concat, reshape-transpose-reshape, split
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        l, r = Split<axis=1>(ar, halves)
        b = Conv(r, b_w, b_b)  br = Relu(b)  d = Conv<group=8, pads=[1,1,1,1]>(br, d_w, d_b)  c = Conv(d, c_w, c_b)
        cr = Relu(c)
        j = Concat<axis=1>(l, cr)  j5 = Reshape(j, five)  t = Transpose<perm=[0,2,1,3,4]>(j5)  s = Reshape(t, four)
        u, v = Split<axis=1>(s, halves)  e = Conv(v, e_w, e_b)  k = Concat<axis=1>(u, e)
        p = GlobalAveragePool(k)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    **conv("a", 16, 3, 3, 3), halves=ints(8, 8), **conv("b", 8, 8, 1, 1), **conv("d", 8, 1, 3, 3), **conv("c", 8, 8,
    1, 1),
    five=ints(-1, 2, 8, 8, 8), four=ints(-1, 16, 8, 8), **conv("e", 8, 8, 1, 1), **conv("y", 10, 16),
)  # fmt: skip
add(
    "c2f",  # YOLOv8: split in two, a bottleneck on one half, concat of all
    3,
    """net (float[N,3,8,8] x) => (float[N,6,8,8] y) {
        a = Conv(x, a_w, a_b)  as = Sigmoid(a)  ar = Mul(a, as)
        l = Slice(ar, zero, eight, one)  r = Slice(ar, eight, end, one)
        b = Conv<pads=[1,1,1,1]>(r, b_w, b_b)  br = Relu(b)  c = Conv<pads=[1,1,1,1]>(br, c_w, c_b)  cr = Relu(c)
        s = Add(r, cr)  j = Concat<axis=1>(l, r, s)  d = Conv(j, d_w, d_b)  dr = Relu(d)
        up = Resize<mode="nearest">(dr, , scales)  dn = AveragePool<kernel_shape=[2,2], strides=[2,2]>(up)
        y = Conv(dn, y_w, y_b)
    }""",
    **conv("a", 16, 3, 1, 1), zero=ints(0), eight=ints(8), one=ints(1), end=ints(2**62), **conv("b", 6, 8, 3, 3),
    **conv("c", 8, 6, 3, 3), **conv("d", 12, 24, 1, 1), scales=np.float32([1, 1, 2, 2]), **conv("y", 6, 12, 1, 1),
)  # fmt: skip
add(
    "spatial-gate",  # gMLP: a convolution over the tokens, whose places are the channels
    1,
    """net (float[N,6,5] x) => (float[N,6,3] y) {
        e = MatMul(x, e_w)  er = Relu(e)  u, v = Split<axis=2>(er, halves)  c = Conv(v, c_w, c_b)  m = Mul(u, c)
        y = MatMul(m, y_w)
    }""",
    e_w=(5, 24), halves=ints(12, 12), **conv("c", 6, 6, 1), y_w=(12, 3),
)  # fmt: skip
add(
    "correlation",  # cost volumes of stereo and flow networks: means of products over channels, also in groups of them
    2,
    """net (float[N,3,6,6] x, float[N,3,6,6] z) => (float[N,4,6,6] y) {
        a = Conv(x, a_w, a_b)  b = Conv(z, b_w, b_b)  p = Mul(a, b)  m = ReduceMean<axes=[1]>(p)  r = Reshape(p, parts)
        q = ReduceMean<axes=[2], keepdims=0>(r)  j = Concat<axis=1>(m, q)  y = Conv(j, y_w)
    }""",
    **conv("a", 12, 3, 1, 1), **conv("b", 12, 3, 1, 1), parts=ints(0, 4, 3, 6, 6), y_w=(4, 5, 1, 1),
)  # fmt: skip
