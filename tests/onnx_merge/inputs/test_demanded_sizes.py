"""Sizes that nodes ask for, found without running the model."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.inputs.assignments import find_assignments
from onnx_merge.runtime.session import Session

IMAGE, TWICE = "float[N,3,H,W] x", "c = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w) r = Relu(c)"
CASES = {
    "weights behind a Flatten": (
        IMAGE, f"{TWICE} f = Flatten(r) y = Gemm(f, g)", {"g": (8 * 42 * 42, 5)}, {2: 84, 3: 84},
    ),
    "weights behind a Reshape": (
        IMAGE, f"{TWICE} f = Reshape(r, s) y = Gemm(f, g)", {"g": (8 * 57 * 57, 5), "s": [-1, 8 * 57 * 57]},
        {2: 114, 3: 114},
    ),
    "position embeddings": (
        IMAGE,
        "c = Conv<strides=[16,16]>(x, q) r = Reshape(c, s) t = Transpose<perm=[0,2,1]>(r) y = Add(t, p)",
        {"q": (8, 3, 16, 16), "p": (1, 23 * 23, 8), "s": [0, 8, -1]}, {2: range(368, 384), 3: range(368, 384)},
    ),
    "one row": (
        IMAGE, f"{TWICE} p = AveragePool<kernel_shape=[17,1],strides=[17,1]>(r) q = Squeeze(p, two) y = ReduceSum(q)",
        {"two": [2]}, {2: range(33, 67)},
    ),
    "a constant beside": (
        IMAGE, "y = Concat<axis=1>(x, k)", {"k": (2, 1, 77, 123)}, {0: 2, 2: 77, 3: 123},
    ),
    "a norm of images": (IMAGE, "y = LayerNormalization<axis=1>(x, k)", {"k": (3, 50, 70)}, {2: 50, 3: 70}),
    "a signal": (
        "float[N,T] x", "u = Unsqueeze(x, one) c = Conv<strides=[160]>(u, q) f = Flatten(c) y = Gemm(f, g)",
        {"one": [1], "q": (4, 1, 400), "g": (4 * 96, 5)}, {1: range(15600, 15760)},
    ),
    "parts": ("float[N,T,8] x", "a, b = Split<axis=1>(x, s) y = MatMul(a, g)", {"s": [100, 43], "g": (8, 5)}, {1: 143}),
    "an index": ("float[N,T,8] x", "y = Gather<axis=1>(x, i)", {"i": 699}, {1: range(700, 9999)}),
    "a border": (IMAGE, "y = Pad<mode=\"reflect\">(x, p)", {"p": [0, 0, 400, 0, 0, 0, 0, 0]}, {2: range(401, 9999)}),
    "a target": (IMAGE, "y = Expand(x, s)", {"s": [1, 3, 119, 1]}, {2: 119}),
    "a batch": (IMAGE, "p = GlobalAveragePool(x) y = Reshape(p, s)", {"s": [6, 3]}, {0: 6}),
}  # fmt: skip


def made(inputs, nodes, arrays):
    text = f"net ({inputs}) => (float y) {{ {nodes} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model.graph.output[0].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(0)
    for name, value in {"w": (8, 3, 3, 3), **arrays}.items():
        array = rng.standard_normal(value, np.float32) if isinstance(value, tuple) else np.array(value, np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_found(name):
    inputs, nodes, arrays, wanted = CASES[name]
    model = made(inputs, nodes, arrays)
    found = find_assignments(Session(model), model=model)
    assert found.found, found.problem
    for axis, sizes in wanted.items():
        first = found.found[0]["x"][axis]
        assert first in sizes if isinstance(sizes, range) else first == sizes, found.found
    assert found.tried < 60


def test_what_contradicts_itself_ends():
    nodes = "q = Reshape(x, s) z = Add(x, k) m = ReduceMax(z) y = Add(q, m)"
    model = made("float[N,T] x", nodes, {"k": (1, 5), "s": [0, 4]})
    assert not find_assignments(Session(model), model=model).found
