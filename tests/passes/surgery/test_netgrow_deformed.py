"""DeformConv, as random networks are run with it, is that of ONNX's reference implementation."""

import numpy as np
import onnx.parser
import pytest
from netgrow_deformed import DeformConv
from onnx.reference import ReferenceEvaluator


@pytest.mark.parametrize(
    ("attributes", "groups", "offset_groups", "kernel", "output"),
    [
        ("", 1, 1, (2, 2), (3, 4)),
        ("pads=[1,0,1,1], strides=[2,1]", 1, 2, (2, 3), (3, 4)),
        ("group=2, dilations=[1,2], pads=[0,1,1,0]", 2, 1, (2, 2), (4, 4)),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_it_computes_what_onnx_defines(attributes, groups, offset_groups, kernel, output, optional):
    rng = np.random.default_rng(0)
    cells = offset_groups * kernel[0] * kernel[1]
    shapes = {"x": (2, 4, 4, 5), "w": (2, 4 // groups, *kernel), "o": (2, 2 * cells, *output)}
    shapes |= {"b": (2,), "m": (2, cells, *output)} if optional else {}
    inputs = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    declared = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in shapes.items())
    given = ", ".join([*(part for part in [attributes] if part), f"offset_group={offset_groups}"])
    text = f'<ir_version: 10, opset_import: ["" : 22]> net ({declared}) => (float[N,C,H,W] y)'
    model = onnx.parser.parse_model(f"{text} {{ y = DeformConv<{given}>({', '.join(shapes)}) }}")
    (expected,) = ReferenceEvaluator(model).run(None, inputs)
    (found,) = ReferenceEvaluator(model, new_ops=[DeformConv]).run(None, inputs)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
