"""Which outputs are scores of classes, and the classes that samples are moved to."""

import numpy as np
import pytest
from netkit import engine, net

from passes.gradients.observed_graph import graph_at
from passes.samples.class_targets import class_scores, class_targets
from passes.settings.tuning import TUNING

LIMITS = TUNING.matching
RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 6)).astype(np.float32)


def scores(body, x=X, **arrays):
    return class_scores(graph_at(net(body, 17, **arrays), {"x": x}, engine), len(x))


W = RNG.standard_normal((6, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("tail", "tensor"),
    [
        ("y = Identity(z)", "y"),
        ("y = Softmax(z)", "z"),
        ("y = Softmax<axis=1>(z)", "z"),
        ("y = LogSoftmax(z)", "y"),
        ("y = Sigmoid(z)", None),
        ("y = Softmax<axis=0>(z)", None),
    ],
)
def test_logits_of_an_output(tail, tensor):
    found = scores(f"net (float[N,6] x, float[6,4] w) => (float[N,4] y) {{ z = MatMul(x, w)  {tail} }}", w=W)
    assert (found and found.tensor) == tensor
    assert found is None or (found.classes, found.rank) == (4, 2)


def test_classes_before_places_of_size_one():
    body = "net (float[N,6,5,5] x) => (float[N,6,1,1] y) { y = GlobalAveragePool(x) }"
    found = scores(body, np.ones((8, 6, 5, 5), np.float32))
    assert (found.classes, found.rank) == (6, 4) and found.line(np.ones((8, 6))).shape == (8, 6, 1, 1)


@pytest.mark.parametrize(
    "body",
    [
        "net (float[N,6] x) => (float[N,6] y, float[N,6] z) { y = Relu(x)  z = Neg(x) }",
        "net (float[N,6] x) => (float[N] y) { y = ReduceSum<keepdims=0>(x, at) }",
        "net (float[N,6] x) => (int64[N,6] y) { y = Cast<to=7>(x) }",
        "net (float[N,6] x) => (float[N,6] x) { y = Relu(x) }",
        "net (float[N,6] x) => (float[N,2,3] y) { y = Reshape(x, to) }",
        "net (float[N,6] x) => (float[1,6] y) { y = ReduceMean<axes=[0]>(x) }",
        "net (float[N,6] x) => (float[6,N] y) { y = Transpose<perm=[1,0]>(x) }",
    ],
    ids=["two outputs", "one number", "integers", "an input", "places", "a row of all samples", "columns of samples"],
)
def test_other_outputs_are_no_classes(body):
    arrays = {"at": np.array([1])} if " at)" in body else {"to": np.array([0, 2, 3])} if " to)" in body else {}
    assert scores(body, **arrays) is None


@pytest.mark.parametrize(("count", "classes"), [(12, 4), (13, 4), (3, 10), (10, 10)])
def test_classes_are_balanced(count, classes):
    logits = 10 * np.random.default_rng(1).standard_normal((count, classes))
    targets = class_targets(logits, LIMITS)
    assert np.allclose(targets.sum(1), 1) and targets.dtype == np.float32
    taken = np.bincount(targets.argmax(1), minlength=classes)
    assert taken.max() <= -(-count // classes) and np.allclose(targets.max(1), 0.9 + 0.1 / classes)


def test_samples_keep_the_classes_that_they_have():
    logits = 20 * np.eye(5)[[3, 1, 4, 0, 2]]
    assert (class_targets(logits, LIMITS).argmax(1) == [3, 1, 4, 0, 2]).all()


def test_scores_that_are_unsure_are_no_classes():
    """An embedding of unit length, or a network that was not trained."""
    logits = RNG.standard_normal((16, 64))
    assert class_targets(logits / np.linalg.norm(logits, axis=1, keepdims=True), LIMITS) is None
    assert class_targets(np.full((4, 3), 7.0), LIMITS) is None
