"""A batch of fixed size one is made dynamic where samples do not depend on each other."""

import numpy as np
import onnx
import pytest
from netkit import engine, net, random_weight

from passes.gradients.observed_graph import graph_at
from passes.transforms.dynamic_batch import with_dynamic_batch

FEEDS = [{"x": np.random.default_rng(seed).standard_normal((1, 6, 4, 4)).astype(np.float32)} for seed in range(2)]
W = random_weight("w", (5, 6, 1, 1)).astype(np.float32)


def dynamic(outputs, body, opset=17, **arrays):
    model = net(f"net (float[1,6,4,4] x) => ({outputs}) {{ {body} }}", opset, w=W, **arrays)
    return model, with_dynamic_batch(graph_at(model, FEEDS[0], engine), FEEDS, engine)


@pytest.mark.parametrize(
    ("outputs", "body", "arrays"),
    [
        ("float[1,5,4,4] y", "y = Conv(x, w)", {}),
        ("float[1,16,5] y", "c = Conv(x, w)  r = Reshape(c, to)  y = Transpose<perm=[0,2,1]>(r)", {"to": [1, 5, 16]}),
        ("float[1,80] y", "c = Conv(x, w)  y = Reshape(c, to)", {"to": [1, -1]}),
        ("float[1,5,4,4] y", "c = Conv(x, w)  r = Reshape(c, to)  y = Reshape(r, to)", {"to": [1, 5, 4, 4]}),
    ],
    ids=["convolution", "list", "flat", "shared target"],
)
def test_samples_answer_together_as_alone(outputs, body, arrays):
    model, made = dynamic(outputs, body, **{k: np.array(v) for k, v in arrays.items()})
    onnx.checker.check_model(made)
    together = engine(made)({"x": np.concatenate([feed["x"] for feed in FEEDS])})["y"]
    alone = np.concatenate([engine(model)(feed)["y"] for feed in FEEDS])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert [value.name for value in made.graph.output] == ["y"]


@pytest.mark.parametrize(
    ("outputs", "body", "arrays"),
    [
        ("float[1,5,4,4] y", "m = ReduceMean<keepdims=1>(x)  s = Sub(x, m)  y = Conv(s, w)", {}),
        ("float[5,4,4] y", "c = Conv(x, w)  y = Reshape(c, to)", {"to": [5, 4, 4]}),
        ("float[1,5,16] y", "c = Conv(x, w)  r = Reshape(c, to)  y = Unsqueeze(r, at)", {"to": [5, 16], "at": [0]}),
        ("float[1] y", "c = Conv(x, w)  s = ReduceSum<keepdims=0>(c)  y = Reshape(s, to)", {"to": [1]}),
    ],
    ids=["mean over samples", "no batch", "batch within", "one number"],
)
def test_a_batch_that_matters_stays(outputs, body, arrays):
    assert dynamic(outputs, body, **{k: np.array(v) for k, v in arrays.items()})[1] is None
