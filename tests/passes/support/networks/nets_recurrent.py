"""Recurrent layers and the states that they start from: none, zeros sized by the batch, learned, computed, given."""

import numpy as np
from netcase import add, conv
from netkit import ints

SIZES = "s = Shape(x)  n = Gather<axis=0>(s, one)  n1 = Unsqueeze(n, a0)"
INTEGERS = dict(one=np.array(1, np.int64), a0=ints(0), a1=ints(1), c1=ints(1), c2=ints(2))


def layer(name, gates, inputs, hidden, directions=1, biases=True):
    shapes = {"w": (gates * hidden, inputs), "r": (gates * hidden, hidden), "b": (2 * gates * hidden,)}
    return {f"{name}_{k}": (directions, *v) for k, v in shapes.items() if biases or k != "b"}


add(
    "lstm-zero-states",  # as PyTorch writes them
    3,
    f"""net (float[5,N,6] x) => (float[5,N,4] y) {{
        e = MatMul(x, e_w)  er = Relu(e)
        {SIZES}  hs = Concat<axis=0>(c1, n1, c10)  h0 = ConstantOfShape(hs)
        l, lh, lc = LSTM<hidden_size=10>(er, l_w, l_r, l_b, , h0, h0)  q = Squeeze(l, a1)
        k = MatMul(q, k_w)  kr = Relu(k)  y = MatMul(kr, y_w)
    }}""",
    e_w=(6, 12), **layer("l", 4, 12, 10), c10=ints(10), k_w=(10, 14), y_w=(14, 4), **INTEGERS,
)  # fmt: skip
add(
    "gru-stacked-states",  # one tensor of zeros, a slice of it for each layer
    3,
    f"""net (float[5,N,6] x) => (float[5,N,4] y) {{
        {SIZES}  hs = Concat<axis=0>(c4, n1, c8)  h0 = ConstantOfShape<value: tensor = float[1] {{0}}>(hs)
        f0 = Slice(h0, a0, c2, a0)  f1 = Slice(h0, c2, c4, a0)
        g = GRU<hidden_size=8, linear_before_reset=1, direction="bidirectional">(x, g_w, g_r, g_b, , f0)
        gt = Transpose<perm=[0,2,1,3]>(g)  gs = Reshape(gt, joined)
        l = GRU<hidden_size=8, direction="bidirectional">(gs, l_w, l_r, , , f1)
        lt = Transpose<perm=[0,2,1,3]>(l)  ls = Reshape(lt, joined)  k = MatMul(ls, k_w)  kr = Relu(k)
        y = MatMul(kr, y_w)
    }}""",
    **layer("g", 3, 6, 8, 2), **layer("l", 3, 16, 8, 2, biases=False), joined=ints(0, 0, -1), k_w=(16, 10), y_w=(10, 4),
    c4=ints(4), c8=ints(8), **INTEGERS,
)  # fmt: skip
add(
    "lstm-full-of-ones",  # a state that is no zero: its size follows
    2,
    f"""net (float[5,N,6] x) => (float[N,4] y) {{
        e = MatMul(x, e_w)  {SIZES}  hs = Concat<axis=0>(c1, n1, c10)
        h0 = ConstantOfShape<value: tensor = float[1] {{1}}>(hs)
        l, lh = LSTM<hidden_size=10>(e, l_w, l_r, l_b, , h0, h0)  q = Squeeze(lh, a0)  y = MatMul(q, y_w)
    }}""",
    e_w=(6, 12), **layer("l", 4, 12, 10), c10=ints(10), y_w=(10, 4), **INTEGERS,
)  # fmt: skip
add(
    "lstm-learned-states",  # vectors that are repeated for each sample; peepholes, clip, lengths
    2,
    f"""net (float[5,2,6] x) => (float[5,2,4] y) {{
        e = MatMul(x, e_w)  {SIZES}  hs = Concat<axis=0>(c1, n1, c10)  h0 = Expand(h_v, hs)  c0 = Expand(c_v, hs)
        l = LSTM<hidden_size=10, clip=1.5>(e, l_w, l_r, l_b, lengths, h0, c0, l_p)  q = Squeeze(l, a1)
        y = MatMul(q, y_w)
    }}""",
    e_w=(6, 12), **layer("l", 4, 12, 10), h_v=(1, 1, 10), c_v=(1, 1, 10), l_p=(1, 30), c10=ints(10), y_w=(10, 4),
    lengths=np.array([5, 3], np.int32), **INTEGERS,
)  # fmt: skip
add(
    "rnn-constant-states",  # states of a fixed batch; a backward pass of which the last state alone is read
    2,
    """net (float[5,2,6] x) => (float[2,4] y) {
        e = MatMul(x, e_w)
        l, last = RNN<hidden_size=10, direction="reverse", activations=["Relu"]>(e, l_w, l_r, l_b, , h0)
        q = Squeeze(last, a0)  y = MatMul(q, y_w)
    }""",
    e_w=(6, 12), **layer("l", 1, 12, 10), h0=(1, 2, 10), y_w=(10, 4), **INTEGERS,
)  # fmt: skip
add(
    "gru-computed-state",  # a decoder that starts from what a Gemm made of an encoder's last state
    4,
    """net (float[5,N,6] x) => (float[5,N,4] y) {
        e, eh = GRU<hidden_size=9>(x, e_w, e_r, e_b)  es = Squeeze(eh, a0)
        m = Gemm<transB=1>(es, m_w, m_b)  h0 = Unsqueeze(m, a0)
        i = MatMul(x, i_w)  l = GRU<hidden_size=10>(i, l_w, l_r, l_b, , h0)  q = Squeeze(l, a1)  k = MatMul(q, k_w)
        kr = Relu(k)  y = MatMul(kr, y_w)
    }""",
    **layer("e", 3, 6, 9), **conv("m", 10, 9), i_w=(6, 8), **layer("l", 3, 8, 10), k_w=(10, 7), y_w=(7, 4), **INTEGERS,
)  # fmt: skip
add(
    "lstm-handed-on",  # the second layer starts where the first one ended
    2,
    """net (float[5,N,6] x) => (float[5,N,4] y) {
        a, ah, ac = LSTM<hidden_size=10>(x, a_w, a_r, a_b)  as = Squeeze(a, a1)
        b = LSTM<hidden_size=10>(as, b_w, b_r, b_b, , ah, ac)  bs = Squeeze(b, a1)
        k = MatMul(bs, k_w)  kr = Relu(k)  y = MatMul(kr, y_w)
    }""",
    **layer("a", 4, 6, 10), **layer("b", 4, 10, 10), k_w=(10, 7), y_w=(7, 4), **INTEGERS,
)  # fmt: skip
add(
    "lstm-given-states",  # states that the caller gives and takes: its units stay, what is around them goes
    2,
    """net (float[5,N,6] x, float[1,N,10] h, float[1,N,10] c) => (float[5,N,4] y, float[1,N,10] ho, float[1,N,10] co) {
        e = MatMul(x, e_w)  l, ho, co = LSTM<hidden_size=10>(e, l_w, l_r, l_b, , h, c)  q = Squeeze(l, a1)
        k = MatMul(q, k_w)  kr = Relu(k)  y = MatMul(kr, y_w)
    }""",
    e_w=(6, 12), **layer("l", 4, 12, 10), k_w=(10, 7), y_w=(7, 4), **INTEGERS,
)  # fmt: skip
