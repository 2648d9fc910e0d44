"""Networks with fully connected, transposed and normalising layers, and ones that move channels about."""

import numpy as np
from netcase import add, conv, norm
from netkit import ints

add(
    "flatten-gemm",
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, a_w, a_b)  ar = Relu(a)  f = Flatten(ar)
        g = Gemm<transB=1>(f, g_w, g_b)  gr = Relu(g)
        m = MatMul(gr, m_w)  mb = Add(m, m_b)  mr = Tanh(mb)  y = Gemm(mr, y_w)
    }""",
    **conv("a", 8, 3, 3, 3), **conv("g", 20, 128), m_w=(20, 16), m_b=(16,), y_w=(16, 10),
)  # fmt: skip
add(
    "nhwc",
    3,
    """net (float[N,8,8,3] x) => (float[N,8,8,5] y) {
        t = Transpose<perm=[0,3,1,2]>(x)  a = Conv<pads=[1,1,1,1]>(t, a_w, a_b)  u = Transpose<perm=[0,2,3,1]>(a)
        sh = Add(u, u_b)  r = Relu(sh)  m = MatMul(r, m_w)  mb = Add(m_b, m)  mr = Relu(mb)
        sc = Mul(mr, s_scale)  n = MatMul(sc, n_w)  nr = Relu(n)  y = MatMul(nr, y_w)
    }""",
    **conv("a", 8, 3, 3, 3), u_b=(8,), m_w=(8, 12), m_b=(12,), s_scale=(12,), n_w=(12, 10), y_w=(10, 5),
)  # fmt: skip
add(
    "conv-transpose",
    3,
    """net (float[N,3,8,8] x) => (float[N,2,14,14] y) {
        a = Conv<strides=[2,2]>(x, a_w, a_b)  ar = Relu(a)  u = ConvTranspose<strides=[2,2]>(ar, u_w, u_b)  ur = Relu(u)
        g = ConvTranspose<group=2, strides=[2,2]>(ur, g_w)  gn = BatchNormalization(g, n_scale, n_bias, n_mean, n_var)
        gr = Relu(gn)  y = Conv(gr, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), u_w=(12, 8, 2, 2), u_b=(8,), g_w=(8, 5, 4, 4), **norm("n", 10), **conv("y", 2, 10, 1, 1),
)  # fmt: skip
add(
    "prelu-pad",  # the option-A shortcut of CIFAR ResNets: channels padded with zeros; and PRelu
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = PRelu(a, a_slope)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = PRelu(b, b_slope)  c = Conv<pads=[1,1,1,1]>(br, c_w, c_b)
        k = Pad(ar, pads)  s = Add(c, k)  sr = Relu(s)
        p = GlobalAveragePool(sr)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    **conv("a", 8, 3, 3, 3), a_slope=(8, 1, 1), **conv("b", 12, 8, 3, 3), b_slope=(12, 1, 1), **conv("c", 16, 12, 3, 3),
    pads=ints(0, 4, 0, 0, 0, 4, 0, 0), **conv("y", 10, 16),
)  # fmt: skip
add(
    "instance-norm",
    2,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  an = InstanceNormalization(a, n_scale, n_bias)  ar = Relu(an)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  bn = Softplus(b)  y = Conv(bn, y_w)
    }""",
    a_w=(12, 3, 3, 3), n_scale=(12,), n_bias=(12,), **conv("b", 8, 12, 3, 3), y_w=(4, 8, 1, 1),
)  # fmt: skip
add(
    "group-norm",
    2,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  an = GroupNormalization<num_groups=4>(a, n_scale, n_bias)  ar = Relu(an)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Elu(b)  y = Conv(br, y_w)
    }""",
    opset=21, ir_version=10, a_w=(16, 3, 3, 3), n_scale=(16,), n_bias=(16,), **conv("b", 8, 16, 3, 3), y_w=(4, 8, 1, 1),
)  # fmt: skip
add(
    "pixel-shuffle",
    3,
    """net (float[N,3,6,6] x) => (float[N,3,12,12] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  d = DepthToSpace<blocksize=2, mode="CRD">(ar)
        b = Conv<pads=[1,1,1,1]>(d, b_w, b_b)  s = SpaceToDepth<blocksize=2>(b)
        e = Conv(s, e_w, e_b)  er = Relu(e)  u = DepthToSpace<blocksize=2>(er)  y = Conv(u, y_w, y_b)
    }""",
    **conv("a", 32, 3, 3, 3), **conv("b", 6, 8, 3, 3), **conv("e", 32, 24, 1, 1), **conv("y", 3, 8, 1, 1),
)  # fmt: skip
add(
    "shared-weights",
    3,
    """net (float[N,3,8,8] x, float[N,3,8,8] z) => (float[N,5,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(z, a_w, a_b)  br = Relu(b)
        c = Conv(ar, c_w, c_b)  d = Conv(br, c_w, c_b)  s = Sub(c, d)  v = Abs(s)
        e = Conv(v, e_w, e_b)  er = Relu(e)  y = Conv(er, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("c", 8, 12, 1, 1), **conv("e", 10, 8, 1, 1), **conv("y", 5, 10, 1, 1),
)  # fmt: skip
add(
    "dynamic-reshape",  # targets computed from Shape, as PyTorch exports x.view(x.size(0), -1) and a 2-d view
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        sh = Shape(ar)  n = Gather<axis=0>(sh, i0)  n1 = Unsqueeze(n, i0v)  c = Gather<axis=0>(sh, i1)
        c1 = Unsqueeze(c, i0v)
        t3 = Concat<axis=0>(n1, c1, minus)  flat = Reshape(ar, t3)  m = ReduceMean<axes=[2], keepdims=0>(flat)
        b = Gemm<transB=1>(m, b_w, b_b)  br = Relu(b)
        half = Div(c, two)  half1 = Unsqueeze(half, i0v)  bt = Concat<axis=0>(n1, minus)  v = Reshape(br, bt)
        h2 = Concat<axis=0>(n1, dims)  w = Reshape(v, h2)  wt = Transpose<perm=[0,2,1]>(w)  q = Reshape(wt, bt)
        y = Gemm<transB=1>(q, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), i0=np.array(0, np.int64), i1=np.array(1, np.int64), i0v=ints(0), minus=ints(-1),
    **conv("b", 24, 12), two=np.array(2, np.int64), dims=ints(4, 6), **conv("y", 10, 24),
)  # fmt: skip
add(
    "lstm",  # a bidirectional GRU, then an LSTM of which only the last state is read
    3,
    """net (float[5,2,6] x) => (float[2,4] y) {
        e = MatMul(x, a_w)  a = ReverseSequence(e, lengths)
        g = GRU<hidden_size=8, linear_before_reset=1, direction="bidirectional">(a, g_w, g_r, g_b)
        gt = Transpose<perm=[0,2,1,3]>(g)  gs = Reshape(gt, joined)
        l, last = LSTM<hidden_size=10>(gs, l_w, l_r, l_b)  ls = Squeeze(last, zero)  y = MatMul(ls, y_w)
    }""",
    a_w=(6, 12), g_w=(2, 24, 12), g_r=(2, 24, 8), g_b=(2, 48), joined=ints(0, 0, -1), zero=ints(0), lengths=ints(5, 3),
    l_w=(1, 40, 16), l_r=(1, 40, 10), l_b=(1, 80), y_w=(10, 4),
)  # fmt: skip
add(
    "eca",  # a gate that looks at neighbouring channels
    3,
    """net (float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        p = GlobalAveragePool(ar)  s = Reshape(p, line)  c = Conv<pads=[1,1]>(s, c_w)  g = Sigmoid(c)
        t = Reshape(g, square)  m = Mul(ar, t)  b = Conv(m, b_w, b_b)  br = Relu(b)  q = GlobalAveragePool(br)
        qs = Reshape(q, line)  d = Conv<pads=[2,2]>(qs, d_w, d_b)  e = Reshape(d, flat)  f = Gemm(e, f_w)  h = Relu(f)
        y = Gemm(h, y_w)
    }""",
    **conv("a", 8, 3, 3, 3), c_w=(1, 1, 3), **conv("b", 10, 8, 1, 1), d_w=(1, 1, 5), d_b=(1,), f_w=(10, 6), y_w=(6, 4),
    line=ints(0, 1, -1), square=ints(0, -1, 1, 1), flat=ints(0, -1),
)  # fmt: skip
add(
    "weight-standardised",  # weights are computed in the graph, by a BatchNormalization in training mode
    2,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        v = Reshape(a_w, line)
        n, nm, nv = BatchNormalization<training_mode=1, momentum=1.0>(v, a_scale, zero, mean, var)
        w = Reshape(n, filters)  a = Conv<pads=[1,1,1,1]>(x, w, a_b)  ar = Relu(a)
        m = ReduceMean<axes=[1,2,3]>(b_w)  d = Sub(b_w, m)  q = Mul(d, d)  s = ReduceMean<axes=[1,2,3]>(q)  r = Sqrt(s)
        u = Div(d, r)  b = Conv(ar, u, b_b)  br = Relu(b)  y = Conv(br, y_w)
    }""",
    **conv("a", 8, 3, 3, 3), line=ints(1, 8, -1), filters=ints(8, 3, 3, 3), a_scale=(8,), zero=np.zeros(8, np.float32),
    mean=np.zeros(8, np.float32), var=np.ones(8, np.float32), **conv("b", 10, 8, 1, 1), y_w=(4, 10, 1, 1),
)  # fmt: skip
