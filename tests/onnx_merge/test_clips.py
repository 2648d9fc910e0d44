"""Batches that are dynamic, but of clips: a multiple of 8 frames."""

import numpy as np
import onnx.parser
import pytest
from onnx.numpy_helper import from_array

from onnx_merge import optimize

CLIPS = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,8] x) => (float[M,5] y) <int64[3] frames = {-1, 8, 8}> {
        a = Conv<pads=[1,1,1,1]>(x, a_w) b = Relu(a) c = Conv(b, c_w) d = Relu(c) p = GlobalAveragePool(d)
        f = Flatten(p) t = Reshape(f, frames) m = ReduceMean<axes=[1], keepdims=0>(t) y = MatMul(m, y_w) }"""


@pytest.mark.parametrize("calib", [None, 100])
def test_layers_are_solved_on_whole_clips(calib):
    model, rng = onnx.parser.parse_model(CLIPS), np.random.default_rng(0)
    for name, shape in (("a_w", (16, 3, 3, 3)), ("c_w", (8, 16, 1, 1)), ("y_w", (8, 5))):
        model.graph.initializer.append(from_array(rng.standard_normal(shape, np.float32), name))
    given = {} if calib is None else {"calib": rng.standard_normal((calib, 3, 8, 8), np.float32)}
    _, result = optimize(model, keep=0.5, gate=False, **given)
    shrunk = [group for group in result.groups if group.status == "shrunk"]
    assert shrunk and {group.method for group in shrunk} == {"reconstruct"}
    assert result.fidelity.fitted % 8 == 0
