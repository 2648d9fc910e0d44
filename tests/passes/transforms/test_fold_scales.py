"""Factors for each channel behind a layer go into its weights and its bias; the function stays."""

import numpy as np
import pytest
from netkit import difference, net

from passes.graph.model import Graph
from passes.transforms.fold_scales import fold_scales
from passes.weights.storage_types import StorageType, mark_storage

ROWS, MAP = "float[N,5,4] x", "float[N,4,6,6] x"
W, C = {"w": (4, 8)}, {"w": (8, 4, 1, 1)}
FOLDED = [
    (ROWS, "a = MatMul(x, w)  y = Mul(a, s)", W, (8,)),
    (ROWS, "a = MatMul(x, w)  d = Add(a, b)  y = Mul(d, s)", {**W, "b": (8,)}, (8,)),
    (ROWS, "a = MatMul(x, w)  d = Add(b, a)  y = Mul(s, d)", {**W, "b": (1, 8)}, (1, 1, 8)),
    ("float[N,4] x", "a = Gemm<alpha=0.5, beta=2.0>(x, w, b)  y = Mul(a, s)", {**W, "b": (8,)}, (8,)),
    ("float[N,4] x", "a = Gemm<transB=1>(x, w)  y = Mul(a, s)", {"w": (8, 4)}, (1, 8)),
    (MAP, "a = Conv(x, w, b)  y = Mul(s, a)", {**C, "b": (8,)}, (8, 1, 1)),
    (MAP, "a = Conv<group=2>(x, w)  y = Mul(a, s)", {"w": (8, 2, 1, 1)}, (1, 8, 1, 1)),
]
LEFT = [
    (ROWS, "a = MatMul(x, w)  r = Relu(a)  y = Mul(r, s)", W, (8,)),
    (ROWS, "a = MatMul(x, w)  p = Mul(a, s)  y = Add(p, a)", W, (8,)),
    (ROWS, "a = MatMul(x, w)  c = MatMul(x, w)  p = Mul(a, s)  y = Add(p, c)", W, (8,)),
    (ROWS, "a = MatMul(x, w)  y = Mul(a, s)", W, (5, 1)),
    (ROWS, "a = MatMul(x, w)  y = Mul(a, s)", W, (5, 8)),
    (ROWS, "a = MatMul(x, w)  y = Mul(a, s)", W, (1,)),
    (ROWS, "a = MatMul(x, w)  y = Mul(a, s)", W, (2, 1, 1, 8)),
    (ROWS, "a = MatMul(x, w)  d = Add(a, x0)  y = Mul(d, s)", {**W, "x0": (5, 8)}, (8,)),
    ("float[N,4] x", "a = Gemm(x, w, b)  y = Mul(a, s)", {**W, "b": (1,)}, (8,)),
    (MAP, "a = Conv(x, w)  y = Mul(a, s)", C, (6,)),
    (MAP, "a = ConvTranspose(x, w)  y = Mul(a, s)", {"w": (4, 8, 1, 1)}, (8, 1, 1)),
]


def graph(inputs, body, sizes, scale):
    return Graph(net(f"net ({inputs}) => (float[] y) {{ {body} }}", 17, **sizes, s=scale))


@pytest.mark.parametrize(("inputs", "body", "sizes", "scale"), FOLDED)
def test_factors_are_folded(inputs, body, sizes, scale):
    made = graph(inputs, body, sizes, scale)
    folded = fold_scales(made, ())
    assert len(folded.graph.node) == len(made.nodes) - 1 and "Mul" not in {n.op_type for n in folded.graph.node}
    assert "s" not in {t.name for t in folded.graph.initializer}
    assert difference(made.model, folded) < 1e-6


@pytest.mark.parametrize(("inputs", "body", "sizes", "scale"), LEFT)
def test_others_stay(inputs, body, sizes, scale):
    made = graph(inputs, body, sizes, scale)
    assert fold_scales(made, ()) is made.model


def test_weights_that_hold_a_norm_stay():
    made = graph(*FOLDED[5])
    assert fold_scales(made, {"w"}) is made.model


def test_weights_that_are_stored_in_a_narrower_type_stay():
    made = graph(*FOLDED[0])
    mark_storage(made.initializers["w"], StorageType(10, "w16"))
    assert fold_scales(made, ()) is made.model


def test_types_are_not_mixed():
    body = "h = Cast<to=10>(x)  a = MatMul(h, w)  y = Mul(a, s)"
    half = {"w": np.ones((4, 8), np.float16)}
    made = Graph(net(f"net ({ROWS}) => (float16[] y) {{ {body} }}", 17, **half, s=np.ones(8, np.float16)))
    assert [node.op_type for node in fold_scales(made, ()).graph.node] == ["Cast", "MatMul"]
