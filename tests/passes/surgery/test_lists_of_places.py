"""Networks that take channels from lists of places, or put them there, equal their twins at any size of the batch."""

import numpy as np
import pytest
from netkit import array_of, engine, ints, net, twin_check

from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings

EXPERTS = net(
    """net (float[N,6] x) => (float[N,4] y) {
        s = MatMul(x, gate_w)  t, k = TopK<axis=1>(s, one)  a = GatherND(up, k)  u = Unsqueeze(x, at)
        h = MatMul(u, a)  r = Relu(h)  b = GatherND(down, k)  d = MatMul(r, b)  z = Squeeze(d, at)  y = MatMul(z, y_w)
    }""",
    gate_w=(6, 3), up=(3, 6, 16), down=(3, 16, 10), y_w=(10, 4), one=ints(1), at=ints(1),
)  # fmt: skip
"""A layer for each row, which the row itself chooses."""

CANVAS = net(
    """net (float[N,6] x) => (float[4,4,4] y) {
        h = MatMul(x, h_w)  r = Relu(h)  p = MatMul(r, at_w)  s = Sigmoid(p)  q = Mul(s, last)  f = Floor(q)
        i = Cast<to=7>(f)  c = ScatterND(canvas, i, r)  t = Transpose<perm=[2,0,1]>(c)  b = Unsqueeze(t, zero)
        d = Conv<pads=[1,1,1,1]>(b, d_w, d_b)  dr = Relu(d)  e = Conv(dr, e_w)  y = Squeeze(e, zero)
    }""",
    h_w=(6, 12), at_w=(12, 2), d_w=(10, 12, 3, 3), d_b=(10,), e_w=(4, 10, 1, 1), zero=ints(0),
    last=np.full(2, 3.99, np.float32), canvas=np.zeros((4, 4, 12), np.float32),
)  # fmt: skip
"""Features of points on a map, as of a detector that sees with a lidar."""

MESSAGES = net(
    """net (float[N,6] x, int64[N] to) => (float[N,4] y) {
        h = MatMul(x, h_w)  r = Relu(h)  m = MatMul(r, m_w)  sh = Shape(m)  zeros = ConstantOfShape(sh)
        rows = Unsqueeze(to, one)  at = Expand(rows, sh)  g = ScatterElements<axis=0, reduction="add">(zeros, at, m)
        gr = Relu(g)  y = MatMul(gr, y_w)
    }""",
    opset=18, h_w=(6, 14), m_w=(14, 12), y_w=(12, 4), one=ints(1),
)  # fmt: skip
"""Sums over the neighbours in a graph."""

CUT_MESSAGES = net(
    """net (float[N,6] x, int64[N] to) => (float[N,4] y) {
        h = MatMul(x, h_w)  r = Relu(h)  m = MatMul(r, m_w)  sh = Shape(m)  zeros = ConstantOfShape(sh)
        rows = Unsqueeze(to, one)  at = Expand(rows, sh)  ash = Shape(at)  u = Slice(m, starts, ash)
        g = ScatterElements<axis=0, reduction="add">(zeros, at, u)  gr = Relu(g)  y = MatMul(gr, y_w)
    }""",
    opset=18, h_w=(6, 14), m_w=(14, 12), y_w=(12, 4), one=ints(1), starts=ints(0, 0),
)  # fmt: skip
"""The same with the messages cut to the shape of the indices, as torch.scatter_add may have more of them."""

WIDTHS = {
    "experts": (EXPERTS, {"up": (3, 6, 8), "down": (3, 8, 5), "y_w": (5, 4)}),
    "canvas": (CANVAS, {"h_w": (6, 6), "canvas": (4, 4, 6), "d_w": (5, 6, 3, 3)}),
    "messages": (MESSAGES, {"h_w": (6, 7), "m_w": (7, 6), "y_w": (6, 4)}),
    "cut messages": (CUT_MESSAGES, {"h_w": (6, 7), "m_w": (7, 6), "y_w": (6, 4)}),
}


@pytest.mark.parametrize("method", ["prune", "merge", "reconstruct"])
@pytest.mark.parametrize("name", WIDTHS)
def test_they_equal_their_twins(name, method):
    model, wanted = WIDTHS[name]
    rng = np.random.default_rng(0)
    given = {value.name for value in model.graph.input}

    def feed(count):
        x, to = rng.standard_normal((count, 6), np.float32), rng.integers(0, count, count)
        return {name: array for name, array in (("x", x), ("to", to)) if name in given}

    feeds = feed(48) | ({"to": np.zeros(48, np.int64)} if "to" in given else {})  # any part of them is a batch
    samples = CalibrationSamples(feeds, True, engine)
    select = "auto" if method == "reconstruct" else "l2"
    result = compress(model, CompressSettings(keep=0.5, method=method, select=select), samples=samples)
    found = {t.name: tuple(t.dims) for t in result.model.graph.initializer}
    assert {n: found[n] for n in wanted} == wanted
    for count in (1, 5, 9):
        fed = feed(count)
        small, whole = (engine(m)(fed)["y"] for m in (result.model, result.twin()))
        np.testing.assert_allclose(small, whole, atol=2e-5 * np.abs(whole).max())


LISTS = {
    "a run": ([2, 3, 4, 5], [1, 2]),
    "a run from the end": ([-4, -3, -2, -1], [2, 3]),
    "two halves changed over": ([4, 5, 6, 7, 0, 1, 2, 3], [2, 3, 0, 1]),
    "twice the same": ([0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 0, 1]),
    "a shuffle": ([0, 4, 1, 5, 2, 6, 3, 7], [0, 1]),
    "a single one among runs": ([3, 1, 2], [2, 1]),
}
"""By name: the list of channels, and that in the result."""


@pytest.mark.parametrize("method", ["prune", "merge"])
@pytest.mark.parametrize("name", LISTS)
def test_constant_lists_of_channels(name, method):
    listed, wanted = LISTS[name]
    model = net(
        """net (float[N,6,5,5] x) => (float[N,4,5,5] y) {
            a = Conv(x, a_w)  ar = Relu(a)  g = Gather<axis=1>(ar, i)  b = Relu(g)  y = Conv(b, y_w)
        }""",
        a_w=(8, 6, 1, 1), y_w=(4, len(listed), 1, 1), i=ints(*listed),
    )  # fmt: skip
    result = twin_check(model, keep=0.5, method=method).model
    gather = next(node for node in result.graph.node if node.op_type == "Gather")
    assert array_of(result, gather.input[1]).tolist() == wanted


def test_a_list_that_two_nodes_share_is_rewritten_for_each():
    model = net(
        """net (float[N,6] x) => (float[N,4] y, float[N,4] z) {
            a = MatMul(x, a_w)  g = Gather<axis=1>(a, i)  y = MatMul(g, y_w)
            h = Gather<axis=1>(x, i)  z = MatMul(h, z_w)
        }""",
        a_w=(6, 8), y_w=(4, 4), z_w=(4, 4), i=ints(1, 2, 3, 4),
    )  # fmt: skip
    result = twin_check(model, keep=0.5).model
    lists = [array_of(result, node.input[1]).tolist() for node in result.graph.node if node.op_type == "Gather"]
    assert lists == [[1, 2], [1, 2, 3, 4]]


@pytest.mark.parametrize("select", ["l1", "l2", "gm", "reprune"])
def test_places_that_differ_from_channel_to_channel(select):
    """Their integers tell channels apart as weights do."""
    model = net(
        """net (float[N,3,8] x) => (float[N,5] y) {
            a = Conv(x, a_w)  r = Abs(a)  s = Shape(r)  n = Gather<axis=0>(s, zero)  u = Unsqueeze(n, at)
            c = Concat<axis=0>(u, four, one)  e = Expand(places, c)  g = GatherElements<axis=2>(r, e)
            k = ReduceMean<axes=[2], keepdims=0>(g)  y = MatMul(k, y_w)
        }""",
        a_w=(4, 3, 1), y_w=(4, 5), places=ints([6], [2], [0], [2])[None], zero=np.array(0), at=ints(0), four=ints(4),
        one=ints(1),
    )  # fmt: skip
    result = twin_check(model, keep=0.5, select=select)
    kept = result.plans[0].keep
    assert array_of(result.model, "places").ravel().tolist() == np.array([6, 2, 0, 2])[kept].tolist()
