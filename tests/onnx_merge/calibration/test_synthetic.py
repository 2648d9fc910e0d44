"""Made-up samples: like photographs where images are wanted, in the range that the model tells, the same every time."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper

from onnx_merge.calibration.dead_leaves import dead_leaves
from onnx_merge.calibration.synthetic import synthetic_feeds
from onnx_merge.errors import InputError, UsageError
from onnx_merge.runtime.tensor_info import BFLOAT16, TensorInfo


def info(shape, dtype=np.float32, name="x"):
    return TensorInfo(name, np.dtype(dtype), shape)


def one(shape, dtype=np.float32, count=16, name="x", upper=None, **arguments):
    bounds = {} if upper is None else {name: upper}
    return synthetic_feeds([info(shape, dtype, name)], count, bounds=bounds, **arguments)[name]


def model_of(body, channels=3, **constants):
    text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[N,{channels},16,16] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), n) for n, v in constants.items())
    return model


@pytest.fixture(scope="module")
def leaves():
    return dead_leaves(128, 3, 32, 32, np.random.default_rng(0))


def test_leaves_are_standardised_and_the_seed_decides(leaves):
    assert np.allclose(leaves.mean((0, 2, 3)), 0, atol=1e-5) and np.allclose(leaves.std((0, 2, 3)), 1, atol=1e-4)
    assert np.array_equal(leaves, dead_leaves(128, 3, 32, 32, np.random.default_rng(0)))
    assert not np.array_equal(leaves[:2], dead_leaves(2, 3, 32, 32, np.random.default_rng(1)))


def test_leaves_have_the_spectrum_and_the_edges_of_photographs(leaves):
    grey = leaves.mean(1) - leaves.mean((1, 2, 3))[:, None, None]
    window = np.hanning(32)
    power = (np.abs(np.fft.fft2(grey * window * window[:, None])) ** 2).mean(0)
    frequency = np.fft.fftfreq(32) * 32
    radius = np.hypot(frequency, frequency[:, None])
    rings = np.arange(2, 15)
    rings_power = [power[(k - 0.5 <= radius) & (radius < k + 0.5)].mean() for k in rings]
    slope = np.polyfit(np.log(rings), np.log(rings_power), 1)[0] / 2
    assert -1.9 < slope < -1.0
    steps = np.diff(grey, axis=-1)
    assert np.mean(steps**4) / np.mean(steps**2) ** 2 > 6  # of normal ones, 3


def test_leaves_have_correlated_colours_and_differ_in_contrast(leaves):
    colours = np.corrcoef(leaves.transpose(1, 0, 2, 3).reshape(3, -1))
    assert 0.75 < colours[0, 2] < colours[0, 1] < 0.98
    assert 0.3 < leaves.mean((1, 2, 3)).std() < 0.7
    low, high = np.quantile(leaves.std((1, 2, 3)), [0.1, 0.9])
    assert 0.4 < low < 0.75 and 1 < high < 1.4


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(8, 8), (9, 300)])
def test_leaves_of_any_size(channels, size):
    assert np.isfinite(dead_leaves(2, channels, *size, np.random.default_rng(0))).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", 3, 16, 16), (16, 3, 16, 16)),
        ((1, 1, 16, 16), (16, 1, 16, 16)),
        ((4, 16, 16, 3), (16, 16, 16, 3)),
        ((3, 16, 16), (48, 16, 16)),
        ((16, 16, 3), (256, 16, 3)),
        (("N", 8, 16, 16), (16, 8, 16, 16)),
        (("N", 5), (16, 5)),
        (("N",), (16,)),
        ((), ()),
        (("N", "T", 3), (16, 16, 3)),
    ],
)
def test_shapes(shape, expected):
    assert one(shape).shape == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float64, BFLOAT16])
def test_types(dtype):
    for shape in (("N", 3, 16, 16), ("N", 5, 4)):
        assert one(shape, dtype).dtype == dtype


def test_sizes_and_strings():
    assert one(("N", 3, "H", "W"), sizes={"H": 8, "W": 12}).shape == (16, 3, 8, 12)
    with pytest.raises(UsageError, match="the model knows only"):
        one(("N", 3, "H", "W"), sizes={"Z": 8})
    with pytest.raises(InputError, match="takes strings"):
        one(("N",), object)


def test_the_other_inputs_do_not_matter():
    a, b = info(("N", 3, 16, 16), name="a"), info(("N", 3, 16, 16), name="b")
    both = synthetic_feeds([a, b], 4, seed=3)
    assert np.array_equal(both["b"], synthetic_feeds([b], 4, seed=3)["b"])
    assert not np.array_equal(both["a"], both["b"])


def test_bytes_are_pixels():
    pixels = one(("N", 16, 16, 3), np.uint8)
    assert pixels.dtype == np.uint8 and 90 < pixels.mean() < 140 and 45 < pixels.std() < 85


def test_integers():
    ids = one(("N", 64), np.int64, upper=1000)
    assert ids.min() >= 0 and ids.max() < 1000 and 0.3 < np.mean(ids < 100) < 0.6
    assert len(np.unique(one(("N", 64), np.int64, upper=3))) == 3
    assert one(("N", 8), np.int64, name="attention_mask").min() == 1
    assert set(one(("N", 8), np.int64).flat) == {0, 1}
    types = one(("N", 8), np.int64, name="token_type_ids", upper=2)
    assert set(types.flat) == {0, 1} and (np.diff(types) >= 0).all()
    places = one(("N", 8), np.int64, name="position_ids", upper=512)
    assert (places == np.arange(8)).all()
    assert one(("N", 8), bool).dtype == bool


def test_other_floats_are_normal_and_remember():
    values = one(("N", 40, 200))
    assert abs(values.std() - 1) < 0.03 and abs(values.mean()) < 0.03
    assert 0.45 < np.mean(values[:, :, 1:] * values[:, :, :-1]) < 0.55
    assert abs(np.mean(values[:, 1:] * values[:, :-1])) < 0.05
    flat = one(("N", 200))
    assert abs(np.mean(flat[:, 1:] * flat[:, :-1])) < 0.05


@pytest.mark.parametrize(
    ("body", "constants", "mean", "high"),
    [
        ("y = Div(x, s)", {"s": 255}, 115, 255),
        ("y = Mul(x, s)", {"s": 1 / 255}, 115, 255),
        ("a = Sub(x, m) y = Div(a, s)", {"m": 127.5, "s": 128}, 127.5, 255),
        ("a = Sub(x, m) y = Identity(a)", {"m": [[[104]], [[117]], [[123]]]}, 115, 255),
        ("a = Sub(x, m) y = Div(a, s)", {"m": [[[[0.485]], [[0.456]], [[0.406]]]], "s": 0.225}, 0.45, 1),
        ("a = Mul(x, s) y = Sub(a, m)", {"s": 2, "m": 1}, 0.5, 1),
        ("a = Cast<to = 1>(x) t = Transpose<perm = [0, 2, 3, 1]>(a) y = Sub(t, m)", {"m": [104, 117, 123]}, 115, 255),
    ],
)
def test_raw_pixels_are_told_by_the_normalisation(body, constants, mean, high):
    images = one(("N", 3, 16, 16), count=64, model=model_of(body, **constants))
    assert images.min() >= 0 and images.max() <= high
    assert abs(images.mean() - mean) < 0.08 * high and 0.12 * high < images.std() < 0.35 * high


@pytest.mark.parametrize(
    "body", ["y = Relu(x)", "y = Add(x, x)", "a = Relu(x) b = Neg(x) y = Add(a, b)", "y = Mul(x, n)"]
)
def test_without_a_normalisation_images_are_standardised(body):
    images = one(("N", 3, 16, 16), model=model_of(body, n=np.ones((16, 16))))
    assert abs(images.mean()) < 1e-4 and abs(images.std() - 1) < 1e-3


def test_a_first_batch_normalisation_tells_mean_and_deviation():
    body = "a = Sub(x, t) y = BatchNormalization(a, o, z, m, v)"
    constants = {"t": 5, "o": np.ones(3), "z": np.zeros(3), "m": [1, 2, 3], "v": [4, 9, 16]}
    images = one(("N", 3, 16, 16), count=64, model=model_of(body, **constants))
    assert np.allclose(images.mean((0, 2, 3)), [6, 7, 8], atol=1e-3)
    assert np.allclose(images.std((0, 2, 3)), [2, 3, 4], atol=1e-2)


@pytest.mark.parametrize(("scale", "shift"), [(1.2, 0.0), (60.0, 115.0), (0.25, 0.5)])
def test_statistics_after_the_first_convolution_tell_the_range(scale, shift):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 3, 3, 3)).astype(np.float32)
    images = dead_leaves(64, 3, 16, 16, rng) * scale + shift
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    answers = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    body = "a = Conv(x, w) y = BatchNormalization(a, o, o, m, v)"
    statistics = {"m": answers.mean((0, 2, 3)), "v": answers.var((0, 2, 3)), "o": np.ones(16), "w": weight}
    made = one(("N", 3, 16, 16), count=64, model=model_of(body, **statistics))
    assert 0.8 * scale < made.std() < 1.2 * scale and abs(made.mean() - shift) < 0.15 * scale
    assert shift == 0 or made.min() >= 0


def test_constants_of_nodes_count_too():
    model = model_of("y = Div(x, s)", s=1)
    del model.graph.initializer[:]
    value = numpy_helper.from_array(np.float32(255), "v")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["s"], value=value))
    assert one(("N", 3, 16, 16), model=model).max() > 200


def test_neighbours_along_the_longest_axis_are_correlated():
    """By 0.5, with a variance of 1 from the first place on: those of the other axes are independent."""
    values = one(("N", 6, 300), count=200).astype(np.float64)
    assert abs(values[..., :1].var() - 1) < 0.15 and abs(values.var() - 1) < 0.02
    assert abs((values[..., 1:] * values[..., :-1]).mean() - 0.5) < 0.02
    assert abs((values[:, 1:] * values[:, :-1]).mean()) < 0.02
