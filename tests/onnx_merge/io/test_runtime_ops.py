"""Norms that onnxruntime's optimizer writes in the standard domain, at opsets that do not define them."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.compression.optimize import optimize
from onnx_merge.errors import InputError
from onnx_merge.io.load import load_model
from onnx_merge.runtime.session import Session

NORMS = {
    "LayerNormalization": "n = LayerNormalization<axis = -1>(x, g, g)",
    "SimplifiedLayerNormalization": "n = SimplifiedLayerNormalization<axis = -1>(x, g)",
    "with the deviation": "n, r = SimplifiedLayerNormalization<axis = -1>(x, g)",
}
OPSETS = [11, 13, 17]


def block(norm, opset, dead=4):
    """A norm and two layers of a transformer. The last ``dead`` units between these are zero on all inputs."""
    text = f"""<ir_version: 7, opset_import: ["" : {opset}]> net (float[N,T,8] x) => (float[N,T,8] y) {{
        {NORMS[norm]}  a = MatMul(n, w)  r1 = Relu(a)  b = MatMul(r1, v)  y = Add(x, b) }}"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    weights = {"g": rng.uniform(0.5, 2, 8), "w": rng.normal(size=(8, 16)), "v": rng.normal(size=(16, 8))}
    weights["w"][:, 16 - dead :] = 0
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return model


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("norm", NORMS)
def test_dead_units_behind_them_go(tmp_path, norm, opset):
    model = block(norm, opset)
    onnx.save(model, tmp_path / "m.onnx")
    smaller, _ = optimize(tmp_path / "m.onnx", lossless=True)
    widths = {t.name: tuple(t.dims) for t in smaller.graph.initializer}
    assert widths["w"] == (8, 12) and widths["v"] == (12, 8)
    x = np.random.default_rng(1).standard_normal((3, 5, 8), np.float32)
    before, after = (Session(m).run({"x": x})["y"] for m in (model, smaller))
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_layers_behind_them_are_refined(norm):
    samples = np.random.default_rng(1).standard_normal((128, 5, 8), np.float32)
    smaller, result = optimize(block(norm, 13, dead=0), keep=0.5, calib={"x": samples}, gate=False)
    assert [(g.size, g.kept) for g in result.groups if g.status == "shrunk"] == [(16, 8)]
    assert not any("gradient" in note for note in result.notes)
    assert any(node.op_type in NORMS for node in smaller.graph.node)


def test_other_unknown_ops_are_refused(tmp_path):
    model = block("LayerNormalization", 13)
    model.graph.node[1].op_type = "MatMulOfNobody"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="MatMulOfNobody"):
        load_model(tmp_path / "m.onnx")
