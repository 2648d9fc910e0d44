"""The axis of samples is taken away from results, whatever reads inputs and outputs."""

import numpy as np
import onnx
import pytest
from chainnet import filled

from onnx_merge import optimize
from onnx_merge.runtime.session import Session

GRAPHS = {
    "an output of several names, and an input": (
        "(float[V,6] x, float[V,V] adj) => (float[V,8] y, float[V,8] same, float[V,6] given) { h = MatMul(adj, x)"
        "  f = MatMul(h, w)  r = Relu(f)  s = MatMul(r, v)  y = Identity(s)  same = Identity(s)  given = Identity(x) }"
    ),
    "an output that is read": (
        "(float[V,6] x, float[V,V] adj) => (float[V,8] y, float[V,8] z) { h = MatMul(adj, x)"
        "  f = MatMul(h, w)  r = Relu(f)  y = MatMul(r, v)  z = Relu(y) }"
    ),
    "bodies that read inputs": (
        "(float[V,6] x, float[V,V] adj, bool flag) => (float[V,8] y) { h = If(flag)"
        " <then_branch = a () => (float[V,6] p) { p = MatMul(adj, x) },"
        " else_branch = b () => (float[V,6] q) { q = Identity(x) }>"
        "  f = MatMul(h, w)  r = Relu(f)  y = MatMul(r, v) }"
    ),
    "a single number": (
        "(float[V,6] x, float[V,V] adj, float scale) => (float loss) { h = MatMul(adj, x)  k = Mul(h, scale)"
        "  f = MatMul(k, w)  r = Relu(f)  s = MatMul(r, v)  loss = ReduceMean<keepdims = 0>(s) }"
    ),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", GRAPHS)
def test_dead_channels_go_and_outputs_stay(name, opset):
    model = filled(f'<ir_version: 8, opset_import: ["" : {opset}]> g {GRAPHS[name]}', {"w": (6, 16), "v": (16, 8)})
    weights = model.graph.initializer[0]
    dead = onnx.numpy_helper.to_array(weights).copy()
    dead[:, 3:7] = 0
    weights.CopyFrom(onnx.numpy_helper.from_array(dead, "w"))
    result, found = optimize(model, lossless=True)
    assert found.groups[0].kept == 12 and any("each run of the model takes one" in line for line in found.notes)
    assert (result.graph.input, result.graph.output) == (model.graph.input, model.graph.output)
    assert not any(node.op_type in ("Squeeze", "Unsqueeze") for node in result.graph.node)
    assert {t.name for t in result.graph.initializer} == {"w", "v"}
    rng = np.random.default_rng(0)
    for size in (1, 9):
        sizes = {"x": (size, 6), "adj": (size, size)}
        feeds = {n: rng.standard_normal(s, np.float32) for n, s in sizes.items()}
        feeds |= {"flag": np.array(True), "scale": np.array(2, np.float32)}
        feeds = {i.name: feeds[i.name] for i in Session(model).inputs}
        before, after = Session(model).run(feeds), Session(result).run(feeds)
        for output, array in before.items():
            np.testing.assert_allclose(after[output], array, 1e-4, 1e-5)
