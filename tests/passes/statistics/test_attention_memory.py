"""The attention scores inside a fused attention node are counted as memory."""

import numpy as np
import onnx
import pytest
from netkit import engine

from passes.graph.model import Graph
from passes.statistics.activation_memory import activations, measured

OUTSIDE = 4 * 2 * 8 * 64
"""Bytes of one of the tensors around it, for two samples."""


def written(heads, keys):
    """Attention of 64 places with 64 or more keys of 8 numbers."""
    lines = f"a = Attention<q_num_heads={heads}, kv_num_heads={heads}>(x, {keys}, {keys})  y = Relu(a)"
    many = "m = Concat<axis=1>(x, x, x)" if keys == "m" else ""
    text = f'<ir_version: 10, opset_import: ["" : 23]> net (float[N,T,8] x) => (float[N,T,8] y) {{ {many} {lines} }}'
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize(("heads", "keys", "scores"), [(1, "x", 64), (4, "x", 4 * 64), (2, "m", 2 * 3 * 64)])
def test_scores_are_counted(heads, keys, scores):
    model, feed = written(heads, keys), {"x": np.zeros((2, 64, 8), np.float32)}
    found = measured(model, feed, engine)
    assert found.widest >= 4 * 2 * 64 * scores
    assert found.widest <= 4 * 2 * 64 * scores + 6 * OUTSIDE
    graph = Graph(model, assignments=({"x": (2, 64, 8)},), engine=engine)
    assert activations(graph).widest * 2 == pytest.approx(found.widest)


def test_queries_with_an_axis_of_heads():
    text = """<ir_version: 10, opset_import: ["" : 23]> net (float[N,4,T,2] x) => (float[N,4,T,2] y)
              { a = Attention(x, x, x)  y = Relu(a) }"""
    found = measured(onnx.parser.parse_model(text), {"x": np.zeros((2, 4, 64, 2), np.float32)}, engine)
    assert found.widest >= 4 * 2 * 4 * 64 * 64
