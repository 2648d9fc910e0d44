"""Inputs whose values decide sizes, and what is said where made-up ones do not fit."""

import numpy as np
import pytest
from chainnet import filled

from onnx_merge import optimize
from onnx_merge.errors import InputError, NotCompressibleError, UsageError
from onnx_merge.inputs.size_inputs import size_inputs

REMEDY = "the values of hw decide sizes, .*: give them with --fix-input hw=..."
RESIZED = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,8,8] x, int64[2] hw) => (float[N,4,H,W] y) {
    a = Conv<pads = [1,1,1,1]>(x, w)  r = Relu(a)  s = Shape<start = 0, end = 2>(r)  to = Concat<axis = 0>(s, hw)
    u = Resize<mode = "linear">(r, , , to)  y = Conv(u, v)
}"""
SIZES = {"w": (8, 3, 3, 3), "v": (4, 8, 1, 1)}


@pytest.mark.parametrize(
    ("inputs", "nodes", "expected"),
    [
        ("int64[2] t", "y = Reshape(x, t)", ["t"]),
        ("float[2] t", "y = Upsample(x, t)", ["t"]),
        ("int64 n", "k = Constant<value_int = 2>()  m = Mul(n, k)  z = Sub(n, n)  y = Range(z, m, k)", ["n"]),
        ("int64[2] i", "y = Gather(x, i)", []),
        ("int64[2] t", "c = Cast<to = 1>(t)  y = Add(x, c)", []),
        ("int64[N] t", "y = Reshape(x, t)", []),  # of the batch, as it seems
    ],
)
def test_which_they_are(inputs, nodes, expected):
    opset = 9 if "Upsample" in nodes else 17
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,2] x, {inputs}) => (float y) {{ {nodes} }}'
    assert size_inputs(filled(text, {})) == expected


@pytest.mark.parametrize("options", [{}, {"input_shape": {"x": (1, 3, 8, 8)}}])
def test_made_up_values_at_which_nothing_runs(options):
    with pytest.raises(UsageError, match=REMEDY):
        optimize(filled(RESIZED, SIZES), keep=0.5, **options)


def test_made_up_values_of_a_model_of_one_size():
    with pytest.raises(InputError, match=f"does not run on made-up samples .*: {REMEDY}"):
        optimize(filled(RESIZED.replace("[N,", "[1,"), SIZES), keep=0.5)


@pytest.mark.parametrize("batch", ["N", "1"])
def test_samples_hold_them(tmp_path, batch):
    """Shapes are looked for with made-up values, whatever the samples hold."""
    text = RESIZED.replace("[N,", f"[{batch},")
    x = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "one.npz", x=x, hw=np.array([12, 10]))
    np.savez(tmp_path / "each.npz", x=x, hw=np.tile([12, 10], (40, 1)))
    with pytest.raises(InputError, match=r"give hw as \(samples, 2\), or once with --fix-input hw=..."):
        optimize(filled(text, SIZES), keep=0.5, calib=tmp_path / "one.npz")
    with pytest.raises(NotCompressibleError, match=f"the shape of output 0 is unknown; {REMEDY}"):
        optimize(filled(text, SIZES), keep=0.5, calib=tmp_path / "each.npz")
    result = optimize(filled(text, SIZES), keep=0.5, method="merge", fix_input={"hw": [12, 10]})[1]
    assert result.groups[0].status == "shrunk"
