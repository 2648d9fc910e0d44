"""Which outputs are scores of places, and the places that samples are moved at."""

import numpy as np
import pytest
from netkit import engine, net

from passes.gradients.observed_graph import graph_at
from passes.samples.dense_scores import ScoreHead, object_targets, score_heads
from passes.settings.tuning import TUNING

X = np.random.default_rng(0).standard_normal((2, 6, 4, 5)).astype(np.float32)
TO = np.array([0, 6, 20])
LIMITS = TUNING.matching


def heads(outputs, body, opset=17, **arrays):
    model = net(f"net (float[N,6,4,5] x) => ({outputs}) {{ {body} }}", opset, **arrays)
    return score_heads(graph_at(model, {"x": X}, engine), len(X))


@pytest.mark.parametrize(
    ("outputs", "body", "expected"),
    [
        ("float[N,6,4,5] y", "y = Sigmoid(x)", [("x", 1, False)]),
        ("float[N,6,4,5] y", "y = Softmax<axis=1>(x)", [("x", 1, True)]),
        ("float[N,20,6] y", "r = Reshape(x, to)  t = Transpose<perm=[0,2,1]>(r)  y = Softmax(t)", [("t", 2, True)]),
        ("float[N,20,6] y", "s = Sigmoid(x)  r = Reshape(s, to)  y = Transpose<perm=[0,2,1]>(r)", [("x", 1, False)]),
        (
            "float[N,18,4,5] y",
            "n = Neg(x)  a = Sigmoid(x)  b = Sigmoid(n)  y = Concat<axis=1>(a, x, b)",
            [("n", 1, False), ("x", 1, False)],
        ),
        ("float[N,6,4,5] y", "a = Sigmoid(x)  y = Mul(x, a)", []),
        ("float[N,6,4,5] y", "y = Relu(x)", []),
        ("float[N,6,4,5] y", "y = Softmax<axis=0>(x)", []),
        ("float[1,6,4,5] y", "m = ReduceMean<axes=[0]>(x)  y = Sigmoid(m)", []),
    ],
    ids=[
        "sigmoid",
        "softmax",
        "list of places",
        "rearranged",
        "joined",
        "a gate",
        "no scores",
        "over samples",
        "of all",
    ],
)
def test_heads(outputs, body, expected):
    found = heads(outputs, body, **({"to": TO} if " to)" in body else {}))
    assert [(head.tensor, head.axis, head.exclusive) for head in found] == expected


@pytest.mark.parametrize(("axis", "expected"), [("<axis=1>", []), ("", []), ("<axis=3>", [3])])
def test_old_softmax_joins_axes(axis, expected):
    found = heads("float[N,6,4,5] y", f"y = Softmax{axis}(x)", opset=11)
    assert [head.axis for head in found] == expected


def test_objects():
    """Objectness and classes are moved at the same places, boxes of another size at their own."""
    kinds = [
        ScoreHead("object", 1, (1, 4, 5), False),
        ScoreHead("classes", 1, (8, 4, 5), True),
        ScoreHead("list", 2, (9, 3), True),
    ]
    found = object_targets(kinds, 50, 0, 1.0, LIMITS)
    same = found["object.weight"][:, 0] > 0
    assert np.array_equal(same, found["classes.weight"][:, 0] > 0) and not same.all((1, 2)).any()
    moved = same.sum((1, 2)) + (found["list.weight"] > 0).sum((1, 2))
    assert moved.max() == LIMITS.objects and moved.mean() > LIMITS.objects - 0.5  # two may be at one place
    assert same.any() and not same.all(0).any() and (found["list.weight"] > 0).any()
    np.testing.assert_allclose(found["classes.target"].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found["list.target"].sum(2), 1, rtol=1e-6)
    picked = found["classes.target"].max(1)[same]
    np.testing.assert_allclose(picked, LIMITS.confidence + (1 - LIMITS.confidence) / 8, rtol=1e-6)
    assert set(found["classes.target"].argmax(1)[same]) == set(range(8))
    np.testing.assert_allclose(found["object.target"][:, 0][same], LIMITS.confidence)


def test_labels_without_places():
    found = object_targets([ScoreHead("labels", 1, (7,), False)], 40, 0, 1.0, LIMITS)
    counts = (found["labels.weight"] > 0).sum(1)
    assert counts.min() >= 1 and counts.max() <= LIMITS.objects


def test_no_head_has_no_targets():
    assert object_targets([], 4, 0, 1.0, LIMITS) == {}
