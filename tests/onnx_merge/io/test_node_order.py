"""Nodes in any order, which runtimes take."""

import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnx_merge
from onnx_merge.io.model_source import load_source
from onnx_merge.io.node_order import node_order, sort_main_graph

TEXT = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,2] x, bool c) => (float[N,2] y)
    <float[2,6] w = {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}, float[6,2] v = {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}> {
    h = MatMul(x, w)  r = Relu(h)
    s = If(c) <then_branch = a () => (float[?,6] p) { p = Neg(r) }, else_branch = b () => (float[?,6] q) { q = Abs(r) }>
    y = MatMul(s, v) }"""


def shuffled(order):
    model = onnx.parser.parse_model(TEXT)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[k] for k in order)
    return model


@given(st.permutations(range(4)))
def test_every_order_is_sorted(order):
    model = shuffled(order)
    assert sort_main_graph(model) == (list(order) != [0, 1, 2, 3])
    assert [n.output[0] for n in model.graph.node] == ["h", "r", "s", "y"] and node_order(model) is None


def test_a_chain_that_is_longer_than_the_stack():
    model = onnx.helper.make_model(onnx.helper.make_graph([], "net", [], []))
    names = [f"t{k}" for k in range(3000)]
    model.graph.node.extend(onnx.helper.make_node("Relu", [a], [b]) for a, b in zip(names[1:], names, strict=False))
    assert sort_main_graph(model) and model.graph.node[0].output[0] == "t2998"


@pytest.mark.parametrize("from_file", [True, False])
def test_they_are_taken(tmp_path, from_file):
    model = shuffled([3, 1, 0, 2])
    before = model.SerializeToString()
    onnx.save(model, tmp_path / "in.onnx")
    source = load_source(tmp_path / "in.onnx" if from_file else model)
    assert node_order(source.model) is None and model.SerializeToString() == before


def test_they_shrink():
    model = onnx.parser.parse_model(
        TEXT.replace(TEXT[TEXT.index("    s = If") : TEXT.index("    y =")], "    s = Abs(r)")
    )
    model.graph.node.insert(0, model.graph.node.pop())
    made, result = onnx_merge.optimize(model, keep=0.5, method="merge")
    assert result.after.params == result.before.params / 2 and node_order(made) is None


def test_a_circle_is_refused():
    model = shuffled([0, 1, 2, 3])
    model.graph.node[0].input[0] = "r"
    with pytest.raises(onnx_merge.InputError, match="not valid"):
        load_source(model)
