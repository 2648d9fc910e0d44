"""Which tensors hold integers, also behind control flow and ops of other domains."""

import numpy as np
import onnx
import onnx.parser
import pytest
from netkit import compressed, ints, net

from passes.graph.kinds import integer_tensors

HEADER = '<ir_version: 9, opset_import: ["" : 18, "ai.onnx.ml" : 3]>'
IF = """net (float[N,6] x, bool flag) => (float[N,8] f, int64[N,1] k) {
    f, k = If (flag) <
        then_branch = one () => (float[N,8] u, int64[N,1] i) { u = MatMul(x, w)  i = ArgMax<axis=1>(u) },
        else_branch = two () => (float[N,8] v, int64[N,1] j) { t = MatMul(x, w)  v = Neg(t)  j = ArgMin<axis=1>(v) }>
    r = Relu(f)
}"""
LOOP = """net (float[N,6] x, int64 count, bool go) => (float[N,6] f, int64 n) {
    f, n = Loop (count, go, x, count) <
        body = step (int64 i, bool c, float[N,6] s, int64 m) => (bool d, float[N,6] t, int64 o) {
            d = Identity(c)  t = Tanh(s)  o = Add(m, i) }>
    r = Relu(f)
}"""
OPS = {
    "y = ai.onnx.ml.ArrayFeatureExtractor(table, at)": "y",
    "y = ai.onnx.ml.ArrayFeatureExtractor(x, at)": "",
    "y = ai.onnx.ml.LabelEncoder<keys_floats=[0.0,1.0], values_int64s=[3,4]>(x)": "y",
    "y = ai.onnx.ml.Scaler<offset=[0.5], scale=[2.0]>(at)": "",
    "y = CastLike(at, x)": "",
    "y = CastLike(x, at)": "y",
    "y = HannWindow(number)": "",
    "y = HannWindow<output_datatype=6>(number)": "y",
    "y = EyeLike<dtype=1>(table)": "",
    "y = EyeLike(table)": "y",
    "y = RandomNormalLike<dtype=1>(table)": "",
}


def parsed(text, **weights):
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


@pytest.mark.parametrize(("body", "extra"), [(IF, {"flag"}), (LOOP, {"go", "count"})])
def test_the_outputs_of_bodies_say_what_control_flow_gives(body, extra):
    found = integer_tensors(parsed(body, w=np.ones((6, 8), np.float32)))
    assert found == extra | {"k" if "k" in body.split("=>")[1].split(")")[0] else "n"}


@pytest.mark.parametrize("node", OPS)
def test_the_type_is_that_of_the_input_that_says_it(node):
    text = f"net (float[N,4] x) => (float[] z) {{ {node}  z = Identity(x) }}"
    model = parsed(text, table=np.ones((2, 3), np.int32), at=np.array([0, 1]), number=np.array(5))
    assert integer_tensors(model) - {"table", "at", "number"} == {*OPS[node]}


def test_layers_behind_control_flow_merge():
    """Two channels of the second layer are parallel: it is a layer like any other."""
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((6, 8)).astype(np.float32), rng.standard_normal((8, 10)).astype(np.float32)
    v[:, 7] = 2 * v[:, 3]
    model = net(
        """net (float[N,6] x, bool flag) => (float[N,4] y) {
        f = If (flag) <then_branch = one () => (float[N,8] a) { a = MatMul(x, w) },
                       else_branch = two () => (float[N,8] b) { c = MatMul(x, w)  b = Neg(c) }>
        h = MatMul(f, v)  r = Relu(h)  y = MatMul(r, u)
    }""",
        w=w, v=v, u=(10, 4), zero=ints(0),
    )  # fmt: skip
    result = compressed(model, lossless=True)
    assert next(len(p.keep) for p in result.plans if p.group.name == "h") == 9
