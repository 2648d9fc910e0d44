"""A small classifier: two convolutions and a Gemm, with random weights."""

import numpy as np
import onnx
import onnx.parser

CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N,3,8,8] x) => (float[N,4] y) {
    [first] a = Conv<pads = [1,1,1,1]>(x, w1, b1)
    [relu] b = Relu(a)
    [second] c = Conv<pads = [1,1,1,1]>(b, w2, b2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    [head] y = Gemm<transB = 1>(f, w3, b3)
}
"""
SIZES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,), "w3": (4, 12), "b3": (4,)}


def filled(text, sizes, seed=0):
    """A model in ONNX's text form, with random weights."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, size in sizes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(size, np.float32), name))
    return model


def chain(seed=0, **sizes):
    """The classifier; ``sizes`` of weights that are other than usual."""
    return filled(CHAIN, SIZES | sizes, seed)
