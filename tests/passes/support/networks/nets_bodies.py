"""Networks whose layers stand inside If, Loop and Scan, with weights of their own and of the graph around them."""

import numpy as np
from netcase import add, conv, norm
from netkit import ints
from nets_recurrent import layer

add(
    "if-layers",  # a voice detector's form: each branch is a network, with all that a branch can have
    0,
    """net (float[N,12] x, bool flag) => (float[N,3] y) {
        y = If(flag) <
            then_branch = yes () => (float[N,3] t) {
                a = Gemm<transB=1>(x, ta_w, ta_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, tb_w, tb_b)  br = Relu(b)
                t = Gemm<transB=1>(br, ty_w, ty_b) },
            else_branch = no () => (float[N,3] u) {
                s = Shape(x)  zero = Constant<value_ints=[0]>()  n = Gather<axis=0>(s, zero)
                a_1 = Gemm<transB=1>(x, ea_w, ea_b)  six = Constant<value_ints=[2, 5]>()
                d = Concat<axis=0>(n, six)  r = Reshape(a_1, d)  g = Relu(r)  f = Flatten<axis=1>(g)
                u = Gemm<transB=1>(f, ey_w, ty_b) }>
    }""",
    **conv("ta", 24, 12), **conv("tb", 16, 24), **conv("ty", 3, 16), **conv("ea", 10, 12), ey_w=(3, 10),
)  # fmt: skip
add(
    "if-recurrent",  # convolutions with a norm, then an LSTM that starts from zeros, its states computed in the branch
    1,
    """net (float[N,4,9] x, bool flag) => (float[N,3] y) {
        c = Conv<pads=[1,1]>(x, c_w, c_b)  cr = Relu(c)  d = Conv(cr, d_w, d_b)
        z = If(flag) <
            then_branch = yes () => (float[N,5] t) {
                a = Conv<pads=[1,1]>(d, a_w)  an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)
                q = Transpose<perm=[2,0,1]>(ar)  s = Shape(q)  i1 = Constant<value_int=1>()
                n = Gather<axis=0>(s, i1)  z0 = Constant<value_ints=[0]>()  n1 = Unsqueeze(n, z0)
                c1 = Constant<value_ints=[1]>()  c8 = Constant<value_ints=[8]>()  hs = Concat<axis=0>(c1, n1, c8)
                h0 = ConstantOfShape(hs)  l, lh, lc = LSTM<hidden_size=8>(q, l_w, l_r, l_b, , h0, h0)
                h = Squeeze(lh, z0)  t = MatMul(h, t_w) },
            else_branch = no () => (float[N,5] u) { e = GlobalAveragePool(d)  f = Flatten(e)  u = MatMul(f, u_w) }>
        y = MatMul(z, y_w)
    }""",
    **conv("c", 8, 4, 3), **conv("d", 6, 8, 1), a_w=(10, 6, 3), **norm("a", 10), **layer("l", 4, 10, 8), t_w=(8, 5),
    u_w=(6, 5), y_w=(5, 3),
)  # fmt: skip
add(
    "loop-layers",  # a refinement in three rounds; the body captures all its weights
    1,
    """net (float[N,6] x) => (float[N,8] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w, b_b)
        y, all = Loop(three, always, b) <body = step (int64 i, bool go, float[N,8] h) =>
            (bool more, float[N,8] next, float[N,8] out) {
                more = Identity(go)  m = Gemm<transB=1>(h, m_w, m_b)  mr = Relu(m)  k = Gemm<transB=1>(mr, k_w, k_b)
                next = Add(k, b)  out = Identity(next) }>
    }""",
    three=np.array(3, np.int64), always=np.array(True), **conv("a", 12, 6), **conv("b", 8, 12), **conv("m", 14, 8),
    **conv("k", 8, 14),
)  # fmt: skip
add(
    "scan-layers",  # a cell written out, step by step, and a reader of its steps
    1,
    """net (float[5,N,6] x) => (float[5,N,4] y) {
        s = Shape(x)  n = Gather<axis=0>(s, i1)  n1 = Unsqueeze(n, a0)  hs = Concat<axis=0>(n1, c8)
        h0 = ConstantOfShape(hs)
        h, all = Scan(h0, x) <num_scan_inputs=1, body = step (float[N,8] state, float[N,6] row) =>
            (float[N,8] next, float[N,8] out) {
                i = MatMul(row, i_w)  ir = Relu(i)  j = MatMul(ir, j_w)  m = MatMul(state, r_w)  p = Add(j, m)
                next = Tanh(p)  out = Identity(next) }>
        c = MatMul(all, c_w)  cr = Relu(c)  y = MatMul(cr, y_w)
    }""",
    i1=np.array(1, np.int64), a0=ints(0), c8=ints(8), i_w=(6, 10), j_w=(10, 8), r_w=(8, 8), c_w=(8, 7), y_w=(7, 4),
)  # fmt: skip
add(
    "nested-layers",  # layers in a loop, and in a branch inside it; one matrix is read at both places
    1,
    """net (float[N,6] x, bool flag) => (float[N,6] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  ar = Relu(a)  b = Gemm<transB=1>(ar, b_w, b_b)
        y = Loop(three, always, b) <body = step (int64 i, bool go, float[N,6] h) => (bool more, float[N,6] next) {
            more = Identity(go)  m = Gemm<transB=1>(h, m_w, m_b)  mr = Relu(m)  k = Gemm<transB=1>(mr, k_w)
            s = MatMul(k, s_w)  sr = Relu(s)
            next = If(flag) <
                then_branch = yes () => (float[N,6] t) {
                    p = MatMul(k, p_w)  pr = Relu(p)  q = MatMul(pr, q_w)  o = MatMul(q, s_w)  ot = Tanh(o)
                    t = MatMul(ot, o_w) },
                else_branch = no () => (float[N,6] u) { u = MatMul(sr, o_w) }> }>
    }""",
    three=np.array(2, np.int64), always=np.array(True), **conv("a", 12, 6), **conv("b", 6, 12), **conv("m", 10, 6),
    k_w=(6, 10), s_w=(6, 8), p_w=(6, 12), q_w=(12, 6), o_w=(8, 6),
)  # fmt: skip
