"""Tests of finding the pixel values that a model expects, where BatchNormalization is folded into the weights."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_merge.calibration.dead_leaves import dead_leaves
from onnx_merge.calibration.input_ranges import found_ranges, given_ranges
from onnx_merge.calibration.load import load_calibration
from onnx_merge.calibration.pixel_convention import CONVENTIONS, STANDARDISED
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

LAYERS, WIDTH = 5, 24
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,32,32] image) => (float[N,24,32,32] y)'


def conv(x, weight, bias):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", patches, weight, optimize=True) + bias[:, None, None]


def trained(convention, seed, folded=True):
    """A chain of convolutions whose channels had means of about 0 to 1 and deviations of about 1 on images of the
    convention, as BatchNormalization leaves them. Its first one is folded in any case."""
    rng = np.random.default_rng(seed)
    images = np.clip(0.45 + 0.26 * dead_leaves(4, 3, 32, 32, np.random.default_rng(9)), 0, 1)
    x = convention.black + (convention.white - convention.black) * images
    lines, source, constants = [], "image", {}
    for k in range(LAYERS):
        weight = rng.standard_normal((WIDTH, x.shape[1], 3, 3)) / np.sqrt(9 * x.shape[1])
        seen = conv(x, weight, np.zeros(WIDTH))
        mean, deviation = seen.mean((0, 2, 3)), seen.std((0, 2, 3))
        scale, shift = rng.uniform(0.5, 1.5, WIDTH), rng.normal(0.0, 0.7, WIDTH)
        fold = folded or k == 0
        factor = scale / deviation if fold else np.ones(WIDTH)
        bias = shift - factor * mean if fold else rng.normal(0.0, 1.0, WIDTH)
        constants |= {f"w{k}": weight * factor[:, None, None, None], f"b{k}": bias}
        lines.append(f"c{k} = Conv <pads = [1, 1, 1, 1]> ({source}, w{k}, b{k})")
        x, source = conv(x, constants[f"w{k}"], bias), f"c{k}"
        if not fold:
            constants |= {f"g{k}": scale, f"s{k}": shift, f"m{k}": mean + bias, f"v{k}": deviation**2}
            lines.append(f"n{k} = BatchNormalization (c{k}, g{k}, s{k}, m{k}, v{k})")
            x, source = (
                scale[:, None, None] * (seen - mean[:, None, None]) / deviation[:, None, None] + shift[:, None, None],
                f"n{k}",
            )
        if k + 1 < LAYERS:
            lines.append(f"r{k} = Relu ({source})")
            x, source = np.maximum(x, 0), f"r{k}"
    lines.append(f"y = Identity ({source})")
    model = onnx.parser.parse_model(HEAD + "{" + "\n".join(lines) + "}")
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


def found(model, layers=100):
    return found_ranges(model, Session(model, CPU).inputs, {}, CPU, layers)


def scale(convention):
    return convention.white - convention.black


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_scale_is_found(convention, folded, seed):
    ranges = found(trained(convention, seed, folded))
    black, white = ranges.known["image"].limits
    assert 1 / 4 <= (white - black).mean() / scale(convention) <= 4  # the scales differ by 64 and more
    assert "by how inner layers answer" in ranges.notes[0] and "nearly as well" not in ranges.notes[0]


def test_made_up_images_have_the_found_values():
    model = trained(CONVENTIONS[3], 0)
    inputs = Session(model, CPU).inputs
    images = load_calibration("synthetic", inputs, count=8, model=model, ranges=lambda: found(model).known).feeds[
        "image"
    ]
    assert images.min() >= 0 and 200 < images.max() <= 255
    plain = load_calibration("synthetic", inputs, count=8, model=model).feeds["image"]
    assert abs(plain.std() - 1) < 0.1


def without_bias(model):
    for node in model.graph.node:
        if node.op_type == "Conv":
            del node.input[2]
    return model


@pytest.mark.parametrize("change", [without_bias, lambda model: model], ids=["no bias", "too few layers looked at"])
def test_nothing_is_said_where_nothing_shows_it(change):
    model = change(trained(CONVENTIONS[3], 0))
    ranges = found(model, 2 if len(model.graph.node[0].input) > 2 else 100)
    assert not ranges.known and not ranges.notes


def test_a_model_that_does_not_run_has_no_range():
    model = trained(STANDARDISED, 0)
    inputs = Session(model, CPU).inputs
    model.graph.node[2].input[0] = "missing"
    assert not found_ranges(model, inputs, {}, CPU, 100).known


class TestGiven:
    inputs = Session(trained(STANDARDISED, 0), CPU).inputs

    def test_black_and_white(self):
        ranges = given_ranges(self.inputs, {}, (255.0, 0.0), None, None)
        known = ranges.known["image"]
        assert np.allclose(known.mean, 0.55 * 255) and np.allclose(known.limits, [[255] * 3, [0] * 3])

    def test_mean_and_std(self):
        ranges = given_ranges(self.inputs, {}, None, (0.5, 0.4, 0.3), (0.25,))
        assert np.allclose(ranges.known["image"].mean, (0.45 - np.array([0.5, 0.4, 0.3])) / 0.25)
        assert np.allclose(ranges.known["image"].deviation, 0.26 / 0.25)

    def test_nothing(self):
        assert given_ranges(self.inputs, {}, None, None, None) is None

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"input_range": (0, 255), "mean": 0.5}, "both say what pixels become"),
            ({"input_range": (0, 255, 1)}, "the values of black and white"),
            ({"input_range": (3, 3)}, "the values of black and white"),
        ],
    )
    def test_contradictions(self, options, problem):
        with pytest.raises(UsageError, match=problem):
            Options.make(options)
