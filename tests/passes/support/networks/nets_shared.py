"""Networks that use a weight twice."""

from netcase import add, conv

add(
    "shared-in-parallel",  # one filter bank, plain and dilated, each with a reader of its own
    2,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, s_w, s_b)  ar = Relu(a)  b = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, s_w)
        br = LeakyRelu(b)  c = Conv(ar, c_w, c_b)  d = Conv(br, d_w, d_b)  e = Mul(c, d)  y = Conv(e, y_w)
    }""",
    **conv("s", 12, 3, 3, 3), **conv("c", 8, 12, 1, 1), **conv("d", 8, 12, 1, 1), y_w=(4, 8, 1, 1),
)  # fmt: skip
add(
    "shared-head",  # RetinaNet's: the same layers read every level
    2,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y, float[N,4,4,4] z) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        b = Conv<pads=[1,1,1,1], strides=[2,2]>(ar, b_w, b_b)  br = Relu(b)
        c = Conv(ar, h_w, h_b)  cr = Relu(c)  y = Conv(cr, y_w, y_b)
        d = Conv(br, h_w, h_b)  dr = Relu(d)  z = Conv(dr, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("b", 12, 12, 3, 3), **conv("h", 10, 12, 1, 1), **conv("y", 4, 10, 1, 1),
)  # fmt: skip
add(
    "unrolled",  # three steps of a recurrence: the weight's outputs are its inputs
    1,
    """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, a_w, a_b)  h0 = Tanh(a)  m1 = MatMul(h0, r_w)  s1 = Add(m1, a)  h1 = Tanh(s1)
        m2 = MatMul(h1, r_w)  s2 = Add(m2, a)  h2 = Tanh(s2)  m3 = MatMul(h2, r_w)  s3 = Add(m3, a)  h3 = Tanh(s3)
        y = Gemm<transB=1>(h3, y_w, y_b)
    }""",
    **conv("a", 12, 6), r_w=(12, 12), **conv("y", 4, 12),
)  # fmt: skip
add(
    "unrolled-conv",
    1,
    """net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  h0 = Relu(a)
        m1 = Conv<pads=[1,1,1,1]>(h0, r_w, r_b)  s1 = Add(m1, a)  h1 = Relu(s1)
        m2 = Conv<pads=[1,1,1,1]>(h1, r_w, r_b)  s2 = Add(m2, a)  h2 = Relu(s2)  y = Conv(h2, y_w, y_b)
    }""",
    **conv("a", 12, 3, 3, 3), **conv("r", 12, 12, 3, 3), **conv("y", 4, 12, 1, 1),
)  # fmt: skip
add(
    "tied-embedding",  # too large to be stored a second time, transposed
    2,
    """net (int64[N,5] i) => (float[N,5,300] y) {
        e = Gather<axis=0>(e_w, i)  a = MatMul(e, a_w)  ab = Add(a, a_b)  ar = Relu(ab)  b = MatMul(ar, b_w)
        s = Add(e, b)  t = Transpose<perm=[1,0]>(e_w)  y = MatMul(s, t)
    }""",
    e_w=(300, 16), a_w=(16, 24), a_b=(24,), b_w=(24, 16),
)  # fmt: skip
add(
    "tied-embedding-norm",
    1,
    """net (int64[N,5] i) => (float[N,5,300] y) {
        e = Gather<axis=0>(e_w, i)  n = LayerNormalization(e, n_scale, n_bias)
        a = MatMul(n, a_w)  ab = Add(a, a_b)  ar = Relu(ab)  b = MatMul(ar, b_w)  s = Add(e, b)
        t = Transpose<perm=[1,0]>(e_w)  y = MatMul(s, t)
    }""",
    e_w=(300, 16), n_scale=(16,), n_bias=(16,), a_w=(16, 24), a_b=(24,), b_w=(24, 16),
)  # fmt: skip
add(
    "shared-bias",  # ties two layers that have nothing else in common
    1,
    """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm(x, a_w, b)  ar = Relu(a)  c = Gemm(ar, c_w, b)  cr = Relu(c)  y = Gemm(cr, y_w)
    }""",
    a_w=(6, 12), c_w=(12, 12), b=(12,), y_w=(12, 4),
)  # fmt: skip
add(
    "there-and-back",  # a weight and its transpose
    1,
    """net (float[N,6] x) => (float[N,6] y) { a = MatMul(x, w)  r = Relu(a)  t = Transpose(w)  y = MatMul(r, t) }""",
    w=(6, 12),
)  # fmt: skip
