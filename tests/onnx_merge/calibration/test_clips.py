"""Batches that are dynamic, but hold whole clips: a multiple of 8 frames, or of 6."""

import numpy as np
import onnx.parser
import pytest
from onnx.numpy_helper import from_array

from onnx_merge import optimize

CLIPS = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,8] x) => (float[M,5] y) <int64[3] frames = {-1, LENGTH, 8}> {
        a = Conv<pads=[1,1,1,1]>(x, a_w) b = Relu(a) c = Conv(b, c_w) d = Relu(c) p = GlobalAveragePool(d)
        f = Flatten(p) t = Reshape(f, frames) m = ReduceMean<axes=[1], keepdims=0>(t) y = MatMul(m, y_w) }"""


def clips(length):
    model, rng = onnx.parser.parse_model(CLIPS.replace("LENGTH", f"{length}")), np.random.default_rng(0)
    for name, shape in (("a_w", (16, 3, 3, 3)), ("c_w", (8, 16, 1, 1)), ("y_w", (8, 5))):
        model.graph.initializer.append(from_array(rng.standard_normal(shape, np.float32), name))
    return model


@pytest.mark.parametrize("length", [8, 6])
@pytest.mark.parametrize("calib", [None, 100])
def test_layers_are_solved_and_measured_on_whole_clips(length, calib):
    frames = np.random.default_rng(1).standard_normal((calib or 0, 3, 8, 8), np.float32)
    given = {} if calib is None else {"calib": frames}
    _, result = optimize(clips(length), keep=0.5, gate=False, **given)
    shrunk = [group for group in result.groups if group.status == "shrunk"]
    assert shrunk and {group.method for group in shrunk} == {"reconstruct"}
    assert result.fidelity.fitted % length == 0
    if calib:
        assert result.fidelity.held_out % length == 0 and not result.fidelity.in_sample
