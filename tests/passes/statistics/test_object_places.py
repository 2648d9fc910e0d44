"""The places of a detector's outputs count by their scores, which are told by their values."""

import numpy as np
import pytest
from netkit import engine, net
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.settings.object_tuning import ObjectTuning
from passes.statistics.object_places import ObjectPlaces

TUNING = ObjectTuning()
JOINED = net(
    """net (float[N,3,16,16] x) => (float[N,8,16,16] y) {
        o = Conv(x, o_w)  c = Conv(x, c_w)  b = Conv(x, b_w)  os = Sigmoid(o)  cs = Softmax<axis=1>(c)
        y = Concat<axis=1>(os, b, cs)
    }""",
    17,
    o_w=(1, 3, 1, 1),
    b_w=(4, 3, 1, 1),
    c_w=(3, 3, 1, 1),
)
APART = net(
    """net (float[N,3,16,16] x) => (float[N,256,2] s, float[N,256,4] b) {
        c = Conv(x, c_w)  ct = Transpose<perm=[0,2,3,1]>(c)  cr = Reshape(ct, two)  s = Softmax<axis=2>(cr)
        d = Conv(x, b_w)  dt = Transpose<perm=[0,2,3,1]>(d)  b = Reshape(dt, four)
    }""",
    17,
    c_w=(2, 3, 1, 1),
    b_w=(4, 3, 1, 1),
    two=np.array([0, -1, 2]),
    four=np.array([0, -1, 4]),
)
RNG = np.random.default_rng(0)
SCORES = np.full((6, 16, 16), 0.01, np.float32)
SCORES[:, 3:5, 7] = 0.9
SCORES[2, 12, 2] = 0.6
WEIGHTS = 0.2 + 0.8 * SCORES / SCORES.mean()
CLASSES = RNG.dirichlet(np.ones(3), (6, 16, 16)).transpose(0, 3, 1, 2)
BOXES = RNG.standard_normal((6, 4, 16, 16))


def places(model, outputs, axes, tuning=TUNING):
    typing = analyse(model, (), None, Quiet(), engine).typing
    halves = {name: [array[:4], array[4:]] for name, array in outputs.items()}
    return ObjectPlaces(typing, halves, axes, tuning)


def joined(scores=SCORES, boxes=BOXES, classes=CLASSES):
    return {"y": np.concatenate([scores[:, None], boxes, classes], 1).astype(np.float32)}


def apart(scores):
    rows = scores.reshape(len(scores), 256)
    return {"s": np.stack([1 - rows, rows], -1), "b": RNG.standard_normal((len(scores), 256, 4)).astype(np.float32)}


def test_objectness_weighs_all_that_is_joined_with_it():
    found = places(JOINED, joined(), {"y": 1}).weights(joined())
    assert found.keys() == {"y"} and found["y"].dtype == np.float32
    np.testing.assert_allclose(found["y"], WEIGHTS[:, None], rtol=1e-5)


def test_scores_weigh_outputs_of_the_same_places_and_the_background_is_none():
    outputs = apart(SCORES)
    found = places(APART, outputs, {"s": 2, "b": -1}).weights(outputs)
    for name in ("s", "b"):
        np.testing.assert_allclose(found[name], WEIGHTS.reshape(6, 256, 1), rtol=1e-5)


def test_the_mean_is_that_of_all_samples_and_other_samples_have_weights_too():
    known = places(JOINED, joined(), {"y": 1})
    other = joined(SCORES[::-1] * 0.5)
    np.testing.assert_allclose(
        known.weights(other)["y"][:, 0], 0.2 + 0.8 * SCORES[::-1] * 0.5 / SCORES.mean(), rtol=1e-5
    )


ODD = np.where(RNG.random(SCORES.shape) < 0.3, 0.9, 0.1).astype(np.float32)


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(SCORES * 0.5, id="no object is found"),
        pytest.param(ODD, id="there is one at many places"),
        pytest.param(SCORES * 1.2, id="not in 0..1"),
        pytest.param(np.where(SCORES > 0.8, np.nan, SCORES), id="not a number"),
        pytest.param(1 - SCORES, id="high at most places"),
        pytest.param(np.maximum(SCORES, 0.3), id="sizes or distances"),
    ],
)
def test_other_values_are_no_scores(scores):
    known = places(JOINED, joined(scores), {"y": 1})
    assert not known and known.weights(joined(scores)) == {}


def test_few_places_are_no_detector():
    assert not places(JOINED, joined(), {"y": 1}, ObjectTuning(fewest_places=257))
    assert places(JOINED, joined(), {"y": 1}, ObjectTuning(fewest_places=256))


def test_batches_of_other_sizes_have_no_weights():
    known = places(JOINED, joined(), {"y": 1})
    assert known.weights({"y": joined()["y"][:, :, :8]}) == {}
