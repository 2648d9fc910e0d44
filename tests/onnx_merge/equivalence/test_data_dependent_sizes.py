"""Which tensors may have other sizes for other values of the inputs."""

import onnx.parser
import pytest

from onnx_merge.equivalence.data_dependent_sizes import value_sized


@pytest.mark.parametrize(
    ("nodes", "sized"),
    [
        ("y = Relu(x)", set()),
        ("s = Shape(x)  r = Reshape(x, s)  y = Relu(r)", set()),
        ("n = NonZero(x)  y = Cast<to = 1>(n)", {"n", "y"}),
        ("s = Shape(n)  n = NonZero(x)", {"n"}),
        ("n = NonZero(x)  s = Shape(n)  y = ConstantOfShape(s)", {"n", "y"}),
        ("s = Shape(x)  z = ConstantOfShape(s)  n = NonZero(z)", set()),
        ("m = ReduceMax<keepdims = 0>(x)  c = Cast<to = 7>(m)  y = Range(zero, c, one)", {"y"}),
        ("c = Cast<to = 7>(x)  v = Flatten(c)  y = Tile(x, v)", {"y"}),
        ("y = their.own.Odd(x)", {"y"}),
    ],
)
def test_tensors(nodes, sized):
    text = f"""<ir_version: 8, opset_import: ["" : 17, "their.own" : 1]>
    g (float[N,3] x) => (float[?] y) <int64 zero = {{0}}, int64 one = {{1}}> {{ {nodes} }}"""
    assert value_sized(onnx.parser.parse_model(text)) == sized
