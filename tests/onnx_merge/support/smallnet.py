"""A small network of three layers, as a model file would hold it."""

import numpy as np
import onnx
import onnx.parser

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,16] x) => (float[N,4] y) {
    [first] a = Gemm<transB = 1>(x, w1, b1)
    b = Relu(a)
    [second] c = Gemm<transB = 1>(b, w2, b2)
    d = Relu(c)
    [head] y = Gemm<transB = 1>(d, w3, b3)
}
"""
SIZES = {"w1": (32, 16), "b1": (32,), "w2": (24, 32), "b2": (24,), "w3": (4, 24), "b3": (4,)}


def network():
    """The model, with the same random weights every time."""
    model = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


def names(folder):
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())
