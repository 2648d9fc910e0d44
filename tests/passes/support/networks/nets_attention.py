"""Attention, as exporters write it."""

import numpy as np
from netcase import add
from netkit import ints

ATTENTION = """
    sh = Shape<start=0, end=2>(n)  hd = Concat<axis=0>(sh, three_heads)  q5 = Reshape(qb, hd)
    q5t = Transpose<perm=[2,0,3,1,4]>(q5)  q1, k1, v1 = Split<axis=0>(q5t, ones)
    q = Squeeze(q1, i0)  k = Squeeze(k1, i0)  v = Squeeze(v1, i0)  kt = Transpose<perm=[0,1,3,2]>(k)
    qk = MatMul(q, kt)  qs = Mul(qk, root)  p = Softmax<axis=-1>(qs)  o = MatMul(p, v)
    ot = Transpose<perm=[0,2,1,3]>(o)  back = Concat<axis=0>(sh, minus)  oc = Reshape(ot, back)
    pr = MatMul(oc, p_w)  pb = Add(pr, p_b)  s = Add(n, pb)  m = LayerNormalization(s, m_scale, m_b)
    u = MatMul(m, u_w)  ub = Add(u, u_b)  g = Gelu(ub)  d = MatMul(g, d_w)  db = Add(d, d_b)  s2 = Add(s, db)
    y = MatMul(s2, y_w)
"""
TRANSFORMER = dict(
    e_w=(5, 16), e_b=(16,), n_scale=(16,), n_b=(16,), three_heads=ints(3, 4, 4), ones=ints(1, 1, 1), i0=ints(0),
    root=np.array(0.5, np.float32), minus=ints(-1), p_w=(16, 16), p_b=(16,), m_scale=(16,), m_b=(16,),
    u_w=(16, 24), u_b=(24,), d_w=(24, 16), d_b=(16,), y_w=(16, 3),
)  # fmt: skip
add(
    "attention",  # heads (4), and queries, keys and values from one MatMul
    2,
    """net (float[N,8,5] x) => (float[N,8,3] y) {
        e = MatMul(x, e_w)  eb = Add(e, e_b)  n = LayerNormalization(eb, n_scale, n_b)
        qkv = MatMul(n, q_w)  qb = Add(qkv, q_b)""" + ATTENTION + "}",
    opset=20, ir_version=9, q_w=(16, 48), q_b=(48,), **TRANSFORMER,
)  # fmt: skip
add(
    "attention-gemm",
    2,
    """net (float[N,8,5] x) => (float[N,8,3] y) {
        e = MatMul(x, e_w)  eb = Add(e, e_b)  n = LayerNormalization(eb, n_scale, n_b)  nf = Reshape(n, rows)
        qf = Gemm<transB=1>(nf, q_w)  sh3 = Shape<start=0, end=2>(n)  qt = Concat<axis=0>(sh3, minus)
        qb = Reshape(qf, qt)
        """ + ATTENTION + "}",
    opset=20, ir_version=9, q_w=(48, 16), rows=ints(-1, 16), **TRANSFORMER,
)  # fmt: skip
add(
    "attention-separate",
    3,
    """net (float[N,8,5] x) => (float[N,8,3] y) {
        n = MatMul(x, e_w)  qq = MatMul(n, qq_w)  kk = MatMul(n, kk_w)  vv = MatMul(n, vv_w)
        kt = Transpose<perm=[0,2,1]>(kk)  qk = MatMul(qq, kt)  p = Softmax(qk)  o = MatMul(p, vv)  y = MatMul(o, y_w)
    }""",
    e_w=(5, 16), qq_w=(16, 12), kk_w=(16, 12), vv_w=(16, 10), y_w=(10, 3),
)  # fmt: skip
add(
    "einsum-attention",
    3,
    """net (float[N,6,10] x) => (float[N,6,10] y) {
        q = Einsum<equation="bti,ihd->bhtd">(x, q_w)  k = Einsum<equation="bti,ihd->bhtd">(x, k_w)
        v = Einsum<equation="bti,ihe->bhte">(x, v_w)  s = Einsum<equation="...td,...sd->...ts">(q, k)  p = Softmax(s)
        o = Einsum<equation="bhts,bhse->bthe">(p, v)  y = Einsum<equation="bthe,heo->bto">(o, y_w)
    }""",
    q_w=(10, 4, 6), k_w=(10, 4, 6), v_w=(10, 4, 8), y_w=(4, 8, 10),
)  # fmt: skip
