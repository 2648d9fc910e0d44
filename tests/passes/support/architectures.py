"""Small networks of every kind that exporters write, with the number of channel groups that should shrink in each."""

from dataclasses import dataclass

import numpy as np
import onnx
from netkit import TOLERANCE, ints, net, random_weight


@dataclass(frozen=True)
class Architecture:
    """``groups``: how many groups shrink at least; ``tolerance``: of outputs computed in this precision."""

    model: onnx.ModelProto
    groups: int
    tolerance: float = TOLERANCE


ARCHITECTURES: dict[str, Architecture] = {}


def add(name, groups, body, tolerance=TOLERANCE, **weights):
    ARCHITECTURES[name] = Architecture(net(body, **weights), groups, tolerance)


def norm(name, n):
    """Weights of a BatchNormalization; in the text: ``BatchNormalization(x, {name}_scale, ...)``."""
    return {f"{name}_{part}": (n,) for part in ("scale", "bias", "mean", "var")}


def conv(name, *shape):
    return {f"{name}_w": shape, f"{name}_b": shape[:1]}


add(
    "conv-bn-relu",
    3,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  an = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  ar = Relu(an)
        b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = LeakyRelu<alpha=0.1>(b)  bp = MaxPool<kernel_shape=[2,2], strides=[2,2]>(br)
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
    **conv("a", 10, 3, 3, 3), **conv("b", 8, 10, 3, 3), **norm("n", 18), **conv("c", 6, 18, 3, 3), **conv("y", 5, 24, 1, 1),
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
    **conv("a", 12, 3, 3, 3), **conv("r", 6, 12, 1, 1), **conv("e", 12, 6, 1, 1), **conv("b", 8, 12, 1, 1), **conv("y", 10, 8),
)  # fmt: skip
add(
    "depthwise",
    2,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        d = Conv<group=12, pads=[1,1,1,1]>(ar, d_w)  dn = BatchNormalization(d, n_scale, n_bias, n_mean, n_var)  dr = Relu(dn)
        p = Conv(dr, p_w, p_b)  m = Conv<group=16>(p, m_w, m_b)  q = GlobalMaxPool(m)  f = Flatten(q)
        y = Gemm<transB=1, alpha=0.5, beta=2.0>(f, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), d_w=(12, 1, 3, 3), **norm("n", 12), **conv("p", 16, 12, 1, 1),
    **conv("m", 32, 1, 3, 3), **conv("y", 10, 32),
)  # fmt: skip
add(
    "grouped",
    4,
    """net (float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  g = Conv<group=4, pads=[1,1,1,1]>(ar, g_w, g_b)  gr = Relu(g)
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
        b = Conv(r, b_w, b_b)  br = Relu(b)  d = Conv<group=8, pads=[1,1,1,1]>(br, d_w, d_b)  c = Conv(d, c_w, c_b)  cr = Relu(c)
        j = Concat<axis=1>(l, cr)  j5 = Reshape(j, five)  t = Transpose<perm=[0,2,1,3,4]>(j5)  s = Reshape(t, four)
        u, v = Split<axis=1>(s, halves)  e = Conv(v, e_w, e_b)  k = Concat<axis=1>(u, e)
        p = GlobalAveragePool(k)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
    }""",
    **conv("a", 16, 3, 3, 3), halves=ints(8, 8), **conv("b", 8, 8, 1, 1), **conv("d", 8, 1, 3, 3), **conv("c", 8, 8, 1, 1),
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
    4,
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
        sh = Shape(ar)  n = Gather<axis=0>(sh, i0)  n1 = Unsqueeze(n, i0v)  c = Gather<axis=0>(sh, i1)  c1 = Unsqueeze(c, i0v)
        t3 = Concat<axis=0>(n1, c1, minus)  flat = Reshape(ar, t3)  m = ReduceMean<axes=[2], keepdims=0>(flat)
        b = Gemm<transB=1>(m, b_w, b_b)  br = Relu(b)
        half = Div(c, two)  half1 = Unsqueeze(half, i0v)  bt = Concat<axis=0>(n1, minus)  v = Reshape(br, bt)
        h2 = Concat<axis=0>(n1, dims)  w = Reshape(v, h2)  wt = Transpose<perm=[0,2,1]>(w)  q = Reshape(wt, bt)
        y = Gemm<transB=1>(q, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), i0=np.array(0, np.int64), i1=np.array(1, np.int64), i0v=ints(0), minus=ints(-1),
    **conv("b", 24, 12), two=np.array(2, np.int64), dims=ints(4, 6), **conv("y", 10, 24),
)  # fmt: skip
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
        qf = Gemm<transB=1>(nf, q_w)  sh3 = Shape<start=0, end=2>(n)  qt = Concat<axis=0>(sh3, minus)  qb = Reshape(qf, qt)
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
