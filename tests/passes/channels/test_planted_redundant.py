"""Channels that carry no information go losslessly too: dead, constant and unread ones."""

import numpy as np
import pytest
from netkit import TOLERANCE, array_of, compressed, difference, engine, net, node_of, session, shape_of, twin_check
from planted import drawn

from passes.axes.registry import facts_of
from passes.graph.model import Graph

GEMM = "net (float[N,6] x) => (float[N,4] y) { a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c) }"
CONV = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    a = Conv(x, w, b)  r = Relu(a)  y = Conv<pads=PADS>(r, v, c)
}"""
POSITIVE = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    s = Conv(x, s_w, s_b)  n = ACTIVATION(s)  a = Conv<pads=[1,1,1,1]>(n, w, b)  r = Relu(a)  y = Conv(r, v, c)
}"""


def gemm():
    return drawn(w=(8, 6), b=(8,), v=(4, 8), c=(4,))


def conv(kernel=3):
    return drawn(w=(8, 3, 1, 1), b=(8,), v=(4, 8, kernel, kernel), c=(4,))


def lossless(model, layer, width, batches=(2, 3)):
    result = compressed(model, lossless=True)
    assert shape_of(result.model, layer)[0] == width
    assert difference(model, result.model, batches) <= TOLERANCE
    return result


@pytest.mark.parametrize("bias", [0.0, -0.5])
def test_dead_by_zero_weights(bias):
    p = gemm()
    p["w"][[2, 5]] = 0
    p["b"][[2, 5]] = bias
    lossless(net(GEMM, **p), "w", 6)


@pytest.mark.parametrize(
    ("body", "bias"),
    [
        ("z = Gelu(a)", 0.5),
        ('z = Gelu<approximate="tanh">(a)', -0.5),
        ("z = Celu<alpha=0.7>(a)", -0.5),
        ("z = Mish(a)", 0.5),
        ("z = Softsign(a)", 0.5),
        ("z = PRelu(a, k)", 0.0),
        ("z = Selu(a)", -0.5),
        ("z = HardSwish(a)", -0.5),
        ("s = Sigmoid(a)  z = Mul(a, s)", -0.5),
        ("z = AveragePool<kernel_shape=[2,2], pads=[0,0,1,1], count_include_pad=1>(a)", 0.0),
        ("m = ReduceMean(a, axes)  z = Mul(a, m)", 0.0),
        ("d = Div(a, root)  e = Erf(d)  f = Add(one, e)  g = Mul(a, f)  z = Mul(g, half)", -0.5),
        ("d = Sub(one, a)  e = Pow(d, two)  z = Sub(e, one)", 0.0),
        ("d = Pow(a, two)  e = Exp(d)  z = Sub(e, one)", 0.5),
    ],
)
def test_constants_stay_constant_in_curved_functions(body, bias):
    p = drawn(w=(8, 3, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,), k=(8, 1, 1))
    p["w"][[2, 5]], p["b"][[2, 5]] = 0, bias
    text = f"net (float[N,3,7,7] x) => (float[N,4,5,5] y) {{ a = Conv(x, w, b)  {body}  y = Conv(z, v, c) }}"
    numbers = {"root": 2**0.5, "one": [1], "half": 0.5, "two": 2}
    given = {name: np.array(value, np.float32) for name, value in numbers.items() if name in body}
    lossless(net(text, 20, axes=np.array([2, 3]), **given, **p), "w", 6)


@pytest.mark.parametrize("bias", [0.5, np.nan])
def test_a_product_with_what_varies_stays(bias):
    p = drawn(w=(8, 3, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,), u=(8, 3, 3, 3))
    p["w"][[2, 5]], p["b"][[2, 5]] = 0, bias
    text = """net (float[N,3,7,7] x) => (float[N,4,5,5] y) {
        a = Conv(x, w, b)  d = Conv(x, u)  z = Mul(a, d)  y = Conv(z, v, c)
    }"""
    assert not compressed(net(text, **p), lossless=True).shrinks


TOWERS = """net (float[N,6] x, float[N,6] z) => (float[N,3] y) {
    a = Gemm(x, w, b)  ar = Relu(a)  ay = Gemm(ar, v, c)  d = Gemm(z, w, b)  dr = Relu(d)  dy = Gemm(dr, v, c)
    y = Sub(ay, dy)
}"""


@pytest.mark.parametrize("bias", [0.0, -1.0])
def test_dead_in_both_towers_of_a_siamese_network(bias):
    """The weights are read by several nodes. What is zero at each of them may go."""
    p = drawn(w=(6, 16), b=(16,), v=(16, 3), c=(3,))
    p["w"][:, [2, 5, 7]], p["b"][[2, 5, 7]] = 0, bias
    lossless(net(TOWERS, **p), "b", 13)


@pytest.mark.parametrize("activation", ["Relu", "Tanh"])
def test_a_constant_in_both_towers_moves_into_the_bias_of_each(activation):
    p = drawn(w=(6, 16), b=(16,), v=(16, 3), c=(3,))
    p["w"][:, 2], p["b"][2] = 0, 0.5
    lossless(net(TOWERS.replace("Relu", activation), **p), "b", 15)


def test_a_zero_factor_goes_and_the_other_one_with_it():
    p = drawn(w=(8, 3, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,), u=(8, 3, 3, 3))
    p["w"][[2, 5]], p["b"][[2, 5]] = 0, 0
    text = """net (float[N,3,7,7] x) => (float[N,4,5,5] y) {
        a = Conv(x, w, b)  d = Conv(x, u)  z = Mul(a, d)  y = Conv(z, v, c)
    }"""
    lossless(net(text, **p), "w", 6)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Softplus"])
def test_dead_by_signs(activation):
    """Inputs that are never negative, weights that are never positive, a bias that is not positive."""
    p = drawn(s_w=(5, 3, 1, 1), s_b=(5,), w=(8, 5, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,))
    p["w"][[1, 6]] = -np.abs(p["w"][[1, 6]])
    p["b"][[1, 6]] = [-0.1, 0.0]
    lossless(net(POSITIVE.replace("ACTIVATION", activation), **p), "w", 6)


@pytest.mark.parametrize("change", ["positive bias", "one positive weight", "inputs of both signs"])
def test_nearly_dead_channels_stay(change):
    p = drawn(s_w=(5, 3, 1, 1), s_b=(5,), w=(8, 5, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,))
    p["w"][1], p["b"][1] = -np.abs(p["w"][1]), -0.1
    if change == "positive bias":
        p["b"][1] = 1e-3
    if change == "one positive weight":
        p["w"][1, 2, 0, 0] = 1e-3
    activation = "Tanh" if change == "inputs of both signs" else "Relu"
    assert not compressed(net(POSITIVE.replace("ACTIVATION", activation), **p), lossless=True).shrinks


@pytest.mark.parametrize("alpha_beta", ["", ", alpha=0.5, beta=2.0"])
def test_a_constant_moves_into_the_bias_of_a_gemm(alpha_beta):
    p = gemm()
    p["w"][[2, 5]], p["b"][[2, 5]] = 0, [0.7, 1.3]
    model = net(GEMM.replace("<transB=1>(r", f"<transB=1{alpha_beta}>(r"), **p)
    result = lossless(model, "w", 6)
    moved = array_of(result.model, node_of(result.model, "y").input[2])
    alpha, beta = (0.5, 2.0) if alpha_beta else (1.0, 1.0)
    np.testing.assert_allclose(moved, beta * p["c"] + alpha * p["v"][:, [2, 5]] @ [0.7, 1.3], rtol=1e-5)


PRODUCTS = """net (float[N,5,6] x) => (float[N,5,4] y) {
    a = MatMul(x, w)  h = Add(a, b)  g = ACTIVATION(h)  m = MatMul(g, v)  y = Add(SUM)
}"""


@pytest.mark.parametrize(("activation", "terms"), [("Relu", "m, c"), ("Gelu", "c, m")])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4)])
def test_a_constant_moves_into_what_is_added_to_a_matrix_product(activation, terms, shape):
    p = drawn(w=(6, 8), b=(8,), v=(8, 4), c=shape)
    p["w"][:, [2, 5]], p["b"][[2, 5]] = 0, [0.5, -0.3]
    model = net(PRODUCTS.replace("ACTIVATION", activation).replace("SUM", terms), 20, **p)
    assert array_of(lossless(model, "b", 6).model, "c").shape == shape
    assert twin_check(model, keep=0.5, method="merge").shrinks


@pytest.mark.parametrize(
    ("ends", "tail"),
    [
        ("float[N,5,6] x) => (float[N,5,4] y)", "y = MatMul(g, v)"),
        ("float[N,5,6] x, float[N,5,4] z) => (float[N,5,4] y)", "m = MatMul(g, v)  y = Add(m, z)"),
        ("float[N,5,6] x) => (float[N,5,4] y, float[N,5,4] m)", "m = MatMul(g, v)  y = Add(m, c)"),
        ("float[N,5,6] x) => (float[N,5,4] y)", "m = MatMul(g, v)  y = Add(m, c5)"),
    ],
    ids=["none", "data", "read without it, too", "for each place"],
)
def test_a_constant_stays_where_no_bias_alone_takes_it(ends, tail):
    """A dead channel goes all the same."""
    p = drawn(w=(6, 8), b=(8,), v=(8, 4), c=(4,), c5=(5, 4))
    p["w"][:, [2, 5]], p["b"][[2, 5]] = 0, [0.5, -0.3]
    given = {name: value for name, value in p.items() if f"{name})" in tail or name in ("w", "b")}
    lossless(net(f"net ({ends} {{ a = MatMul(x, w)  h = Add(a, b)  g = Relu(h)  {tail} }}", **given), "b", 7)


def test_a_constant_moves_into_a_bias_that_was_not_there():
    p = gemm()
    p["w"][2], p["b"][2] = 0, 0.7
    p.pop("c")
    lossless(net(GEMM.replace("(r, v, c)", "(r, v)"), **p), "w", 7)


def test_a_constant_moves_into_the_bias_of_a_convolution():
    p = conv()
    p["w"][2], p["b"][2] = 0, 0.7
    lossless(net(CONV.replace("PADS", "[0,0,0,0]").replace("[N,4,6,6]", "[N,4,4,4]"), **p), "w", 7)


def test_a_constant_moves_into_the_bias_of_a_grouped_convolution():
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  r = Relu(a)  g = Conv<group=2>(r, v, c)  y = Conv(g, u)
    }"""
    p = drawn(w=(8, 3, 1, 1), b=(8,), v=(6, 4, 1, 1), c=(6,), u=(4, 6, 1, 1))
    p["w"][[2, 6]], p["b"][[2, 6]] = 0, 0.7  # the same place of both groups
    lossless(net(body, **p), "w", 6)
    p["b"][6] = 0.2  # two constants that go together and are not equal
    model = net(body, **p)
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE


@pytest.mark.parametrize("auto_pad", [False, True])
def test_a_constant_does_not_move_through_padding(auto_pad):
    p = conv()
    p["w"][2], p["b"][2] = 0, 0.7
    body = CONV.replace("pads=PADS", 'auto_pad="SAME_UPPER"' if auto_pad else "pads=[1,1,1,1]")
    assert not compressed(net(body, **p), lossless=True).shrinks
    p["b"][2] = -0.7  # zero, behind the Relu: nothing is lost at the border
    lossless(net(body, **p), "w", 7)


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
def test_a_bias_that_is_one_number_counts(shape):
    """Neither is the channel zero, nor are rows that are parallel without it multiples of each other."""
    p = gemm()
    p["w"][2] = 0
    p["w"][5] = 2 * p["w"][4]
    p["b"] = np.full(shape, 0.7, np.float32)
    model = net(GEMM, **p)
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE


def test_a_bias_for_each_sample_counts():
    p = gemm()
    p["w"][2] = 0
    p["b"] = np.array([[0.7], [0.2]], np.float32)
    model = net(GEMM.replace("[N,", "[2,"), **p)
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE


@pytest.mark.parametrize("transposed", ["MatMul", "Gemm"])
def test_features_first(transposed):
    """The weights are the left operand: a constant has no bias of a row to move into."""
    body = "net (float[6,N] x) => (float[4,N] y) { a = Gemm(w, x, b)  r = Relu(a)  y = CONSUMER }"
    p = drawn(w=(8, 6), v=(4, 8))
    p["b"] = np.linspace(0.1, 1, 8, dtype=np.float32)[:, None]
    p["w"][2] = 0
    model = net(body.replace("CONSUMER", f"{transposed}(v, r)"), **p)
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE
    p["b"][2] = -1
    lossless(net(body.replace("CONSUMER", f"{transposed}(v, r)"), **p), "w", 7)


@pytest.mark.parametrize(
    "body",
    [
        'a = Einsum<equation="nd,df->nf">(x, w)  h = Relu(a)  y = Einsum<equation="nf,fe->ne">(h, v)',
        "a = MatMul(x, w)  e = Neg(x)  d = MatMul(e, w)  h = Sub(a, d)  f = Abs(h)  y = MatMul(f, v)",
        "a = MatMul(x, w)  i = ArgMax<axis=1, keepdims=0>(a)  t = Transpose(w)  u = Gather(k, i)  y = MatMul(u, v)",
    ],
    ids=["einsum", "difference", "rows of a table"],
)
def test_dead_by_other_layers(body):
    p = drawn(w=(6, 8), v=(8, 4), k=(8, 8))
    p["w"][:, [2, 5]] = p["k"][:, [2, 5]] = 0
    result = compressed(model := net(f"net (float[N,6] x) => (float[N,4] y) {{ {body} }}", **p), lossless=True)
    assert shape_of(result.model, "v") == (6, 4)
    assert difference(model, result.model) <= TOLERANCE


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_dead_in_front_of_a_depthwise_convolution_and_by_its_kernel(op, bias):
    """Behind it such a channel is its bias everywhere, also at the border."""
    p = drawn(w=(8, 3, 1, 1), b=(8,), k=(8, 1, 3, 3), kb=(8,), v=(4, 8, 1, 1), c=(4,))
    p["w"][[2, 5]], p["b"][[2, 5]], p["k"][4] = 0, [0, -1], 0
    text = f"""net (float[N,3,6,6] x) => (float[N,4,6,6] y) {{
        a = Conv(x, w, b)  r = Relu(a)  d = {op}<group=8, pads=[1,1,1,1]>(r, k{", kb" * bias})  y = Conv(d, v, c)
    }}"""
    p = {name: value for name, value in p.items() if name != "kb" or bias}
    assert shape_of(lossless(net(text, **p), "w", 5).model, "k") == (5, 1, 3, 3)


def test_a_constant_in_front_of_a_depthwise_convolution_stays():
    """Its border is another value."""
    p = drawn(w=(8, 3, 1, 1), b=(8,), k=(8, 1, 3, 3), v=(4, 8, 1, 1), c=(4,))
    p["w"][2], p["b"][2] = 0, 0.5
    text = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, w, b)  r = Relu(a)  d = Conv<group=8, pads=[1,1,1,1]>(r, k)  y = Conv(d, v, c)
    }"""
    assert not compressed(net(text, **p), lossless=True).shrinks


def test_a_scale_of_zero_behind_a_norm_of_each_sample():
    p = drawn(w=(8, 3, 3, 3), b=(8,), v=(4, 8, 1, 1), c=(4,), s_scale=(8,), t=(8,))
    p["s_scale"][[2, 5]] = 0
    text = """net (float[N,3,7,7] x) => (float[N,4,5,5] y) {
        a = Conv(x, w, b)  n = InstanceNormalization(a, s_scale, t)  r = Relu(n)  y = Conv(r, v, c)
    }"""
    lossless(net(text, **p), "w", 6)


QUANTISED = """net (float[N,3,5,5] x) => (float[N,4,5,5] y) {
    w = DequantizeLinear<axis=0>(wq, ws, wz)  b = DequantizeLinear<axis=0>(bq, ws)  a = Conv(x, w, b)  r = Relu(a)
    q = QuantizeLinear(r, s, z)  d = DequantizeLinear(q, s, z)
    v = DequantizeLinear(vq, s)  y = Conv(d, v, c)
}"""


@pytest.mark.parametrize(("back", "width"), [("z", 5), ("other", 7)])
def test_dead_and_unread_channels_of_quantised_layers(back, width):
    """Zero stands for itself between QuantizeLinear and DequantizeLinear, if they have the same zero point."""
    rng = np.random.default_rng(0)
    wq = rng.integers(-100, 100, (8, 3, 1, 1)).astype(np.int8)
    vq = rng.integers(-100, 100, (4, 8, 1, 1)).astype(np.int8)
    bq = rng.integers(-1000, 1000, 8).astype(np.int32)
    zero = np.zeros(8, np.int8)
    wq[[2, 5]], bq[[2, 5]], vq[:, 4] = 0, [0, -7], 0
    given = dict(ws=np.full(8, 0.01, np.float32), wz=zero, s=np.float32(0.02), z=np.uint8(3), **drawn(c=(4,)))
    given["other"] = np.uint8(5)
    body = QUANTISED.replace("(q, s, z)", f"(q, s, {back})")
    model = net(
        body, wq=wq, vq=vq, bq=bq, **{k: np.asarray(v) for k, v in given.items() if f"{k})" in body or k != "other"}
    )
    assert shape_of(lossless(model, "wq", width).model, "vq") == (4, width, 1, 1)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantised_values_are_known(kind):
    body = """net (float[N] x) => (float[N] q, float[N] y) {
        i = QuantizeLinear(x, s, z)  q = Cast<to=1>(i)  y = DequantizeLinear(i, s, z) }"""
    model = net(body, 21, 10, s=np.array(0.03, np.float32), z=np.array(7, kind))
    graph = Graph(model, engine=engine)
    quantise, dequantise = (facts_of("", graph.nodes[k].op).function.of(graph, graph.nodes[k]) for k in (0, 2))
    x = np.random.default_rng(0).normal(0, 3, 200).astype(np.float32)
    q, y = session(model).run(None, {"x": x})
    np.testing.assert_array_equal(quantise(x.astype(np.float64)), q)
    np.testing.assert_allclose(dequantise(q.astype(np.float64)), y, rtol=1e-6)


def test_a_layer_that_reads_nothing_makes_constants():
    """Its weights are (8, 0)."""
    p = {**gemm(), "w": np.zeros((8, 0), np.float32)}
    model = net(GEMM.replace("float[N,6] x", "float[N,0] x"), **p)
    assert shape_of(lossless(model, "w", 1).model, "v") == (4, 1)
    assert twin_check(model, keep=0.5, method="merge").shrinks


def test_unread():
    p = conv()
    p["v"][:, [0, 3, 4]] = 0
    lossless(net(CONV.replace("PADS", "[1,1,1,1]"), **p), "w", 5)


@pytest.mark.parametrize("part", ["s = Slice(r, eight, sixteen, one)", "o, s = Split<axis=1>(r, halves)"])
def test_what_nothing_reads(part):
    """Half of the channels are cut off: one stays, as in every group."""
    text = f"net (float[N,6] x) => (float[N,4] y) {{ a = MatMul(x, w)  r = Relu(a)  {part}  y = MatMul(s, v) }}"
    numbers = {"eight": np.array([8]), "sixteen": np.array([16]), "one": np.array([1]), "halves": np.array([8, 8])}
    model = net(text, w=(6, 16), v=(8, 4), **{name: value for name, value in numbers.items() if name in part})
    result = twin_check(model, lossless=True)
    assert sorted(len(p.keep) for p in result.plans if p.group.size == 8) == [1, 8]
    assert difference(model, result.model) <= TOLERANCE


@pytest.mark.parametrize(
    ("body", "width"),
    [
        ("m = Mul(p, q)  y = ReduceSum(m, last)", 5),
        ("y = ReduceL2<axes=[1]>(p)", 6),
        ('s = Einsum<equation="nc->n">(p)  y = Unsqueeze(s, last)', 6),
        ('y = Einsum<equation="nc,nd->nd">(p, q)', 6),
        ("s = ReduceSumSquare<axes=[1]>(p)  e = Add(s, one)  r = Sqrt(e)  n = Div(p, r)  y = MatMul(n, v)", 6),
        ("y = ReduceLogSumExp<axes=[1]>(p)", 8),
        ("y = ReduceMean<axes=[1]>(p)", 8),
    ],
)
def test_zeros_add_nothing_to_a_sum_over_the_channels(body, width):
    """Of the product of two towers, a channel goes that is zero in one of them."""
    rng = np.random.default_rng(0)
    p, q = (rng.standard_normal((6, 8)).astype(np.float32) for _ in range(2))
    p[:, [2, 5]], q[:, 7] = 0, 0
    text = f"net (float[N,6] x, float[N,6] z) => (float[N,k] y) {{ p = MatMul(x, p_w)  q = MatMul(z, q_w)  {body} }}"
    given = {"last": np.array([1]), "one": np.array(1, np.float32), "v": (8, 3)}
    model = net(text, p_w=p, q_w=q, **{name: value for name, value in given.items() if name in body})
    result = twin_check(model, lossless=True)
    assert next(len(plan.keep) for plan in result.plans if plan.group.name == "p") == width
    assert difference(model, result.model) <= TOLERANCE
    twin_check(model, keep=0.5, method="prune")


def test_unread_by_one_consumer_only():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w, b)  r = Relu(a)  p = Gemm<transB=1>(r, v, c)  q = Gemm<transB=1>(r, u)  y = Add(p, q)
    }"""
    p = {**gemm(), **drawn(u=(4, 8))}
    p["v"][:, [0, 3]] = 0
    assert not compressed(net(body, **p), lossless=True).shrinks
    p["u"][:, 3] = 0
    lossless(net(body, **p), "w", 7)


def test_everything_free_leaves_one_channel():
    p = gemm()
    p["w"][:] = 0
    model = net(GEMM, **p)
    lossless(model, "w", 1)


def test_a_cast_to_integers_passes_no_scale():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm<transB=1>(x, w)  i = Cast<to=6>(a)  f = Cast<to=1>(i)  y = Gemm<transB=1>(f, v, c)
    }"""
    p = gemm()
    p.pop("b")
    p["w"] *= 4
    p["w"][5] = 2 * p["w"][4]
    model = net(body, **p)
    assert not compressed(model, lossless=True).shrinks
    p["w"][5] = p["w"][4]
    lossless(net(body, **p), "w", 7)


def test_free_channels_go_first():
    """At any width: the channel with the largest weights goes if it is unread."""
    p = gemm()
    p["w"][3] *= 100
    p["v"][:, 3] = 0
    result = compressed(net(GEMM, **p), keep=7 / 8)
    np.testing.assert_array_equal(result.plans[0].keep, [0, 1, 2, 4, 5, 6, 7])


def test_a_bias_from_the_data_takes_no_constant():
    p = conv(1)
    p["w"][[2, 5]] = 0
    p["b"][[2, 5]] = 1.5
    body = """net (float[1,3,6,6] x) => (float[1,4,6,6] y) {
        m = ReduceMean<axes=[0,2,3], keepdims=0>(x)  d = MatMul(m, k)
        a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v, d)
    }"""
    model = net(body, **{**p, "k": drawn(k=(3, 4))["k"]})
    assert not compressed(model, lossless=True).shrinks
    assert twin_check(model, keep=0.5).shrinks
