"""Attention heads whose values are zero go losslessly, whatever their scores, and however the heads are laid out."""

import numpy as np
import pytest
from netkit import TOLERANCE, compressed, difference, ints, net, shape_of
from planted import drawn

HEADS, WIDTH, TOKENS, MODEL = 3, 4, 5, 12
NUMBERS = {"to4": ints(0, 0, HEADS, WIDTH), "to3": ints(0, 0, -1), "root": np.array(0.5, np.float32)}
ENDS = f"net (float[N,{TOKENS},{MODEL}] x) => (float[N,{TOKENS},7] y)"
SCORES = "kt = Transpose<perm=[0,1,3,2]>(k)  s = MatMul(q, kt)  m = Mul(s, root)  p = Softmax(m)"
CONTEXT = "c = MatMul(p, v)  ct = Transpose<perm=[0,2,1,3]>(c)  cr = Reshape(ct, to3)  y = MatMul(cr, wo)"
HEAD_FIRST = "Transpose<perm=[0,2,1,3]>"

SEPARATE = f"""{ENDS} {{
    qm = MatMul(x, wq)  qa = Add(qm, bq)  qr = Reshape(qa, to4)  q = {HEAD_FIRST}(qr)
    km = MatMul(x, wk)  ka = Add(km, bk)  kr = Reshape(ka, to4)  k = {HEAD_FIRST}(kr)
    vm = MatMul(x, wv)  va = Add(vm, bv)  vr = Reshape(va, to4)  v = {HEAD_FIRST}(vr)
    {SCORES}  {CONTEXT}
}}"""
HEADS_IN_THE_BATCH = f"""{ENDS} {{
    qm = MatMul(x, wq)  qa = Add(qm, bq)  qt = Transpose<perm=[1,0,2]>(qa)  qb = Reshape(qt, flat)
    km = MatMul(x, wk)  ka = Add(km, bk)  kt = Transpose<perm=[1,0,2]>(ka)  kb = Reshape(kt, flat)
    vm = MatMul(x, wv)  va = Add(vm, bv)  vt = Transpose<perm=[1,0,2]>(va)  vb = Reshape(vt, flat)
    q = Transpose<perm=[1,0,2]>(qb)  k = Transpose<perm=[1,2,0]>(kb)  v = Transpose<perm=[1,0,2]>(vb)
    s = MatMul(q, k)  p = Softmax(s)  c = MatMul(p, v)  ct = Transpose<perm=[1,0,2]>(c)
    cr = Reshape(ct, back)  cb = Transpose<perm=[1,0,2]>(cr)  y = MatMul(cb, wo)
}}"""


def separate():
    return drawn(wq=(12, 12), bq=(12,), wk=(12, 12), bk=(12,), wv=(12, 12), bv=(12,), wo=(12, 7))


SPLIT = f"""{ENDS} {{
    a = MatMul(x, w)  b3 = Add(a, b)  qf, kf, vf = Split<axis=2>(b3, thirds)
    qr = Reshape(qf, to4)  q = {HEAD_FIRST}(qr)  kr = Reshape(kf, to4)  k = {HEAD_FIRST}(kr)
    vr = Reshape(vf, to4)  v = {HEAD_FIRST}(vr)  {SCORES}  {CONTEXT}
}}"""
SLICES = SPLIT.replace(
    "qf, kf, vf = Split<axis=2>(b3, thirds)",
    "qf = Slice(b3, zero, one, last)  kf = Slice(b3, one, two, last)  vf = Slice(b3, two, three, last)",
)
STACKED = f"""{ENDS} {{
    a = MatMul(x, w)  b3 = Add(a, b)  r = Reshape(b3, to5)  t = Transpose<perm=[2,0,3,1,4]>(r)
    UNBIND  {SCORES}  {CONTEXT}
}}"""
UNBIND = {
    "gathered": "q = Gather(t, i0)  k = Gather(t, i1)  v = Gather(t, i2)",
    "split": "q1, k1, v1 = Split<axis=0>(t, ones)  q = Squeeze(q1, i)  k = Squeeze(k1, i)  v = Squeeze(v1, i)",
}
WITHIN_HEADS = f"""{ENDS} {{
    a = MatMul(x, w)  b3 = Add(a, b)  r = Reshape(b3, to_heads)  t = {HEAD_FIRST}(r)
    q, k, v = Split<axis=3>(t, widths)  {SCORES}  {CONTEXT}
}}"""
LAYOUTS = {
    "thirds": (SPLIT, {"thirds": ints(12, 12, 12)}),
    "slices": (SLICES, {"zero": ints(0), "one": ints(12), "two": ints(24), "three": ints(36), "last": ints(2)}),
    "stacked, gathered": (
        STACKED.replace("UNBIND", UNBIND["gathered"]),
        {"to5": ints(0, 0, 3, HEADS, WIDTH), **{f"i{k}": np.array(k) for k in range(3)}},
    ),
    "stacked, split": (
        STACKED.replace("UNBIND", UNBIND["split"]),
        {"to5": ints(0, 0, 3, HEADS, WIDTH), "ones": ints(1, 1, 1), "i": ints(0)},
    ),
    "within heads": (WITHIN_HEADS, {"to_heads": ints(0, 0, HEADS, 3 * WIDTH), "widths": ints(4, 4, 4)}),
}


def values_of(layout, array):
    """The columns of the values in the fused weights, by head: (..., heads, width)."""
    if layout == "within heads":
        return array.reshape(*array.shape[:-1], HEADS, 3, WIDTH)[..., 2, :]
    return array.reshape(*array.shape[:-1], 3, HEADS, WIDTH)[..., 2, :, :]


def goes(model, to):
    """The weights named shrink losslessly to these shapes."""
    result = compressed(model, lossless=True)
    assert {name: shape_of(result.model, name) for name in to} == to
    assert difference(model, result.model) <= TOLERANCE


def test_a_dead_head():
    p = separate()
    p["wv"][:, 4:8], p["bv"][4:8] = 0, 0
    goes(net(SEPARATE, **p, **NUMBERS), {"wq": (12, 8), "wk": (12, 8), "wv": (12, 8), "wo": (8, 7)})


def test_a_dead_head_with_the_heads_in_the_batch():
    p = separate()
    p["wv"][:, 8:], p["bv"][8:] = 0, 0
    shapes = {"flat": ints(TOKENS, -1, WIDTH), "back": ints(TOKENS, -1, MODEL)}
    goes(net(HEADS_IN_THE_BATCH, **p, **shapes), {"wq": (12, 8), "wk": (12, 8), "wv": (12, 8), "wo": (8, 7)})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dead_head_in_fused_weights(layout):
    body, numbers = LAYOUTS[layout]
    p = drawn(w=(12, 36), b=(36,), wo=(12, 7))
    values_of(layout, p["w"])[:, 1] = 0
    values_of(layout, p["b"])[1] = 0
    model = net(body, **p, **{k: v for k, v in NUMBERS.items() if k in body}, **numbers)
    goes(model, {"w": (12, 24), "b": (24,), "wo": (8, 7)})
    values_of(layout, p["w"])[0, 1, 2] = 1e-3
    model = net(body, **p, **{k: v for k, v in NUMBERS.items() if k in body}, **numbers)
    assert not compressed(model, lossless=True).shrinks


@pytest.mark.parametrize("which", ["wq", "wk"])
def test_zero_queries_or_keys_are_no_dead_head(which):
    """Its scores are the same for all tokens: it gives their mean value. But what its scores add up goes."""
    p = separate()
    p[which][:, 4:8], p["b" + which[1]][4:8] = 0, 0
    assert not compressed(net(SEPARATE, **p, **NUMBERS), lossless=True).shrinks


@pytest.mark.parametrize("which", ["wq", "wk"])
def test_a_term_of_the_scores_that_is_zero(which):
    """The queries or the keys are zero at one place of every head: so is their product."""
    p = separate()
    p[which][:, 2::4], p["b" + which[1]][2::4] = 0, 0
    goes(net(SEPARATE, **p, **NUMBERS), {"wq": (12, 9), "wk": (12, 9), "wv": (12, 12), "wo": (12, 7)})
    p["b" + which[1]][6] = 0.1
    assert not compressed(net(SEPARATE, **p, **NUMBERS), lossless=True).shrinks


def test_a_place_of_the_values_that_is_zero_in_all_heads():
    p = separate()
    p["wv"][:, 1::4], p["bv"][1::4] = 0, 0
    goes(net(SEPARATE, **p, **NUMBERS), {"wq": (12, 12), "wv": (12, 9), "wo": (9, 7)})


def test_a_head_that_adds_its_bias_stays():
    p = separate()
    p["wv"][:, 4:8], p["bv"][5] = 0, 0.7
    p["bv"][[4, 6, 7]] = 0
    assert not compressed(net(SEPARATE, **p, **NUMBERS), lossless=True).shrinks


def test_a_copy_of_a_head():
    p = separate()
    for name, array in p.items():
        if name != "wo":
            array[..., 8:] = array[..., 4:8]
    goes(net(SEPARATE, **p, **NUMBERS), {"wq": (12, 8), "wk": (12, 8), "wv": (12, 8), "wo": (8, 7)})
    p["wq"][:, 8:] *= 2
    assert not compressed(net(SEPARATE, **p, **NUMBERS), lossless=True).shrinks


GROUPED = f"""net (float[2,{TOKENS},{MODEL}] x) => (float[2,{TOKENS},7] y) {{
    qm = MatMul(x, wq)  qr = Reshape(qm, to_queries)  q = {HEAD_FIRST}(qr)
    km = MatMul(x, wk)  kr = Reshape(km, to_keys)  kh = {HEAD_FIRST}(kr)  ku = Unsqueeze(kh, two)
    ke = Expand(ku, spread)  k = Reshape(ke, to_heads)
    vm = MatMul(x, wv)  vr = Reshape(vm, to_keys)  vh = {HEAD_FIRST}(vr)  vu = Unsqueeze(vh, two)
    ve = Expand(vu, spread)  v = Reshape(ve, to_heads)  {SCORES}  {CONTEXT}
}}"""


def test_dead_values_that_several_queries_read():
    """Grouped-query attention: six heads of queries, two for each of the three of keys and values."""
    p = drawn(wq=(12, 24), wk=(12, 12), wv=(12, 12), wo=(24, 7))
    p["wv"][:, 4:8] = 0
    numbers = {"to_queries": ints(0, 0, 6, 4), "to_keys": ints(0, 0, 3, 4), "spread": ints(2, 3, 2, TOKENS, 4)}
    numbers |= {"to_heads": ints(2, 6, TOKENS, 4), "two": ints(2), "to3": ints(0, 0, -1), "root": NUMBERS["root"]}
    goes(net(GROUPED, **p, **numbers), {"wq": (12, 16), "wk": (12, 8), "wv": (12, 8), "wo": (16, 7)})


OPERATOR = """net (float[N,5,12] x) => (float[N,5,7] y) {
    q = MatMul(x, wq)  k = MatMul(x, wk)  vm = MatMul(x, wv)  v = Add(vm, bv)
    c = Attention<q_num_heads=QUERIES, kv_num_heads=3>(q, k, v)  y = MatMul(c, wo)
}"""
BY_HEAD = f"""net (float[N,5,12] x) => (float[N,5,7] y) {{
    qm = MatMul(x, wq)  qr = Reshape(qm, to4)  q = {HEAD_FIRST}(qr)  km = MatMul(x, wk)  kr = Reshape(km, to4)
    k = {HEAD_FIRST}(kr)  vm = MatMul(x, wv)  va = Add(vm, bv)  vr = Reshape(va, to4)  v = {HEAD_FIRST}(vr)
    c = Attention(q, k, v)  ct = {HEAD_FIRST}(c)  cr = Reshape(ct, to3)  y = MatMul(cr, wo)
}}"""


@pytest.mark.parametrize(("body", "queries"), [(OPERATOR, 3), (OPERATOR, 6), (BY_HEAD, 3)], ids=["3", "6", "by head"])
def test_a_dead_head_of_the_attention_operator(body, queries):
    p = drawn(wq=(12, 4 * queries), wk=(12, 12), wv=(12, 12), bv=(12,), wo=(4 * queries, 7))
    p["wv"][:, 4:8], p["bv"][4:8] = 0, 0
    numbers = {k: v for k, v in NUMBERS.items() if k in body}
    model = net(body.replace("QUERIES", str(queries)), 23, 10, **p, **numbers)
    goes(model, {"wq": (12, 8 * queries // 3), "wk": (12, 8), "wv": (12, 8), "wo": (8 * queries // 3, 7)})
    p["bv"][6] = 0.1
    model = net(body.replace("QUERIES", str(queries)), 23, 10, **p, **numbers)
    assert not compressed(model, lossless=True).shrinks


PLACES = """net (float[N,L,6] x) => (float[N,M,4] y) {
    h = MatMul(x, w)  t = Reshape(h, lines)  u = Reshape(t, halves)  g = Gather<axis=1>(u, first)  y = MatMul(g, v)
}"""
"""The first of two halves of a sequence of twice the length, in which a channel has two places of its own."""


def test_places_that_agree_at_one_length_only_are_not_told_apart():
    """At a length of one, the first half is the first of the channel's two places, which is zero."""
    p = drawn(w=(6, 16), v=(8, 4))
    p["w"][:, 3] = 0
    model = net(PLACES, lines=ints(0, -1, 8), halves=ints(0, 2, -1, 8), first=np.array(0), **p)
    for sizes in ([(2, 1, 6), (3, 16, 6)], [(2, 16, 6), (3, 1, 6)]):
        result = compressed(model, lossless=True, assignments=tuple({"x": size} for size in sizes))
        assert not result.shrinks


def test_places_of_a_batch_of_one_are_not_told_apart():
    """Two rows of each sample trade places with the batch: shapes are those of one sample, whose rows are apart."""
    p = drawn(w=(6, 16), b=(2, 1, 16), v=(16, 4))
    p["w"][:, 3], p["b"][0, :, 3] = 0, 0
    model = net("""net (float[N,6] x) => (float[N,4] y, float[M,4] z) {
        h = MatMul(x, w)  e = Add(h, b)  g = Gather<axis=0>(e, first)  y = MatMul(g, v)
        t = Reshape(e, rows)  u = Reshape(t, rows)  s = Gather<axis=1>(u, first)  z = MatMul(s, v)
    }""", rows=ints(-1, 2, 16), first=np.array(0), **p)  # fmt: skip
    assert not compressed(model, lossless=True).shrinks
