"""Masks in which ones leave places out are told from those in which ones keep them, and made up accordingly."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge import optimize
from passes.analysis.mask_inputs import masks_of_left_out

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
CONSTANTS = """float low = {-inf}, float far = {-10000.0}, float zero = {0.0}, float one = {1.0}, float half = {0.5},
    int64 none = {0}, int64[1] last = {-1}"""


def model(nodes, mask="bool[N,4] mask"):
    text = f"{HEAD} net ({mask}, float[N,4] s) => (float[N,4] y) <{CONSTANTS}> {{ {nodes} y = Softmax(t) }}"
    return onnx.parser.parse_model(text)


LEAVING_OUT = {
    "by a choice": "t = Where(mask, low, s)",
    "through Not": "n = Not(mask)  t = Where(n, s, low)",
    "as another mask beside it": "c = Less(s, zero)  o = Or(mask, c)  t = Where(o, low, s)",
    "as an added table": "e = Where(mask, low, zero)  t = Add(s, e)",
    "by a computed constant": "z = Shape(s)  f = ConstantOfShape<value = float[1] {-1e9}>(z)  t = Where(mask, f, s)",
    "by a product": "c = Cast<to=1>(mask)  p = Mul(c, far)  t = Add(s, p)",
    "reshaped": "u = Unsqueeze(mask, last)  v = Squeeze(u, last)  n = Not(v)  m = Not(n)  t = Where(m, low, s)",
}
KEEPING = {
    "by a choice": "t = Where(mask, s, low)",
    "through Not": "n = Not(mask)  t = Where(n, low, s)",
    "by a product": "c = Cast<to=1>(mask)  d = Sub(one, c)  p = Mul(d, far)  t = Add(s, p)",
    "both ways": "a = Where(mask, low, s)  b = Where(mask, s, low)  t = Max(a, b)",
    "without low numbers": "t = Where(mask, half, s)",
    "of zeros": "t = Where(mask, zero, s)",
}


@pytest.mark.parametrize("nodes", LEAVING_OUT.values(), ids=LEAVING_OUT)
def test_ones_leave_places_out(nodes):
    assert masks_of_left_out(model(nodes)) == ["mask"]


@pytest.mark.parametrize("nodes", KEEPING.values(), ids=KEEPING)
def test_ones_keep_places_or_show_nothing(nodes):
    assert masks_of_left_out(model(nodes)) == []


@pytest.mark.parametrize(("compared", "found"), [("Equal(mask, none)", []), ("Greater(mask, none)", ["mask"])])
def test_integers(compared, found):
    assert masks_of_left_out(model(f"c = {compared}  t = Where(c, low, s)", "int64[N,4] mask")) == found


def test_ids_are_no_mask():
    assert masks_of_left_out(model("c = Greater(ids, none)  t = Where(c, low, s)", "int64[N,4] ids")) == []


ATTENTION = """net (float[N,5,8] x, bool[N,5] padding) => (float[N,5,3] y) {
    q = MatMul(x, q_w)  k = MatMul(x, k_w)  kt = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, kt)
    u = Unsqueeze(padding, middle)  m = Where(u, low, s)  p = Softmax(m)  v = MatMul(x, v_w)  o = MatMul(p, v)
    h = MatMul(o, h_w)  r = Relu(h)  y = MatMul(r, y_w)
}"""


def test_a_run_compares_outputs_that_are_numbers():
    found = onnx.parser.parse_model(f"{HEAD} {ATTENTION}")
    rng = np.random.default_rng(0)
    shapes = {"q_w": (8, 8), "k_w": (8, 8), "v_w": (8, 8), "h_w": (8, 16), "y_w": (16, 3)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {"low": np.array(-np.inf, np.float32), "middle": np.array([1])}
    found.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    _, result = optimize(found, keep=0.5)
    assert np.isfinite(result.fidelity.nsr)
    assert "ones of the mask padding leave places out: zeros were made up, which leave out none" in result.notes
