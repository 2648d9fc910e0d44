"""A small network that onnxruntime loads with its basic optimisations only."""

import numpy as np
import onnx
import onnx.parser

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
net (float[N,6] x) => (float[?,?] y) <float s = {0.05}, int8 z = {2}, int64[2] t = {-1,2}> {
    a = MatMul(x, a_w)  r = Relu(a)  b = MatMul(r, b_w)  u = Relu(b)  h = MatMul(u, h_w)
    q = QuantizeLinear(h, s, z)  d = DequantizeLinear(q, s, z)  y = Reshape(d, t) }"""
"""onnxruntime moves the DequantizeLinear behind the Reshape, with a zero point of another type."""


def network_the_optimiser_breaks():
    """The model, with the same random weights every time."""
    model, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in {"a_w": (6, 12), "b_w": (12, 12), "h_w": (12, 4)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    return model
