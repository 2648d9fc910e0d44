"""Sparse weights: dense where that takes little more room."""

import numpy as np
import pytest
from netkit import array_of, difference, engine, net, twin_check
from onnx import helper, numpy_helper

from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.interface.reason import text
from passes.pipeline import compress
from passes.settings.compress import CompressSettings
from passes.transforms.canonicalize import canonicalize

BODY = """net (float[N,6] x) => (float[N,4] y) {
    a = MatMul(x, a_w)  r = Relu(a)  b = MatMul(r, b_w)  s = Relu(b)  y = MatMul(s, y_w)
}"""


def sparse(array, name, linear=True):
    """``array`` in coordinates, linear or one for each axis."""
    places = np.flatnonzero(array)
    indices = places if linear else np.stack(np.unravel_index(places, array.shape), 1)
    values = numpy_helper.from_array(array.ravel()[places], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(indices.astype(np.int64)), array.shape)


def weights(density):
    rng = np.random.default_rng(0)
    return np.where(rng.random((12, 8)) < density, rng.standard_normal((12, 8)), 0).astype(np.float32)


def stored(density, where, linear=True):
    model = net(BODY, a_w=(6, 12), y_w=(8, 4))
    tensor = sparse(weights(density), "b_w", linear)
    if where == "node":
        tensor.values.name = "values"
        model.graph.node.insert(0, helper.make_node("Constant", [], ["b_w"], sparse_value=tensor))
    else:
        model.graph.sparse_initializer.append(tensor)
    return model


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("where", ["node", "initializer"])
def test_half_of_it_zeros(where, linear):
    model = stored(0.5, where, linear)
    result = canonicalize(model, engine)
    np.testing.assert_array_equal(array_of(result, "b_w"), weights(0.5))
    assert not result.graph.sparse_initializer and len(result.graph.node) == 5
    if where == "node" or linear:  # what onnxruntime itself reads
        assert difference(model, result) == 0
    dense = net(BODY, a_w=(6, 12), b_w=weights(0.5), y_w=(8, 4))
    assert difference(dense, twin_check(dense, keep=1.0).model) == 0
    shrunk = twin_check(model, keep=0.5).model
    assert array_of(shrunk, "b_w").shape == (6, 4)


@pytest.mark.parametrize("where", ["node", "initializer"])
def test_nearly_all_zeros(where):
    model = stored(0.05, where)
    result = compress(model, CompressSettings(keep=0.5), engine=engine)
    assert {text(p.reason) for p in result.plans if p.group.name in "ab"} == {"b_w (Constant) is stored sparse"}
    count = int(np.count_nonzero(weights(0.05)))
    assert cost(Graph(canonicalize(model, engine))).params == 6 * 12 + 8 * 4 + count


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.bool_])
def test_types(dtype):
    array = np.array([[0, 1, 0], [3, 0, 2]]).astype(dtype)
    model = net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    model.graph.sparse_initializer.append(sparse(array, "k"))
    found = array_of(canonicalize(model), "k")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_no_entries_at_all():
    model = net("net (float[2,3] x) => (float[2,3] y) { y = Add(x, k) }")
    model.graph.sparse_initializer.append(sparse(np.zeros((2, 3), np.float32), "k"))
    assert [n.op_type for n in canonicalize(model).graph.node] == ["Constant", "Add"]
