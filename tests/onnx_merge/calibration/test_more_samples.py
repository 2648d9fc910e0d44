"""More samples: of the user's, mirror images, made up."""

import numpy as np
import onnx.parser
import pytest
from onnx.numpy_helper import from_array

from onnx_merge import optimize
from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.more_samples import more_synthetic_samples, more_user_samples
from onnx_merge.config.options import Options
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.tensor_info import TensorInfo

F32 = np.dtype(np.float32)
MODEL = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,1,8,8] x) => (float[N,6] y) {
    f = Flatten(x)  a = Gemm<transB=1>(f, a_w)  r = Relu(a)  y = Gemm<transB=1>(r, y_w)
}"""


def model():
    made, rng = onnx.parser.parse_model(MODEL), np.random.default_rng(0)
    for name, shape in {"a_w": (96, 64), "y_w": (6, 96)}.items():
        made.graph.initializer.append(from_array(rng.standard_normal(shape).astype(np.float32), name))
    return made


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def given(found, info, load=None):
    (make,) = more_user_samples(found, info, load)
    return make()


@pytest.mark.parametrize(("shape", "wide"), [((5, 3, 8, 9), 3), ((5, 8, 9, 3), 2)])
def test_each_image_stands_beside_its_mirror_image(shape, wide):
    x, other = images(*shape), images(5, 4)
    infos = [TensorInfo("x", F32, ("N", *shape[1:])), TensorInfo("other", F32, ("N", 4))]
    feeds, what = given(Calibration({"x": x, "other": other}, "", True), infos)
    assert what == "mirror images served too (--calib-samples 5: no more)"
    assert np.array_equal(feeds["x"][::2], x) and np.array_equal(feeds["x"][1::2], np.flip(x, wide))
    assert np.array_equal(feeds["other"], np.repeat(other, 2, axis=0))


def test_what_is_no_image_has_no_mirror_image():
    assert more_user_samples(Calibration({"x": images(5, 4)}, "", True), [TensorInfo("x", F32, ("N", 4))], None) == []


def test_more_of_the_users_come_before_mirror_images():
    x = images(12, 3, 8, 8)
    infos = [TensorInfo("x", F32, ("N", 3, 8, 8))]
    found = Calibration({"x": x[:5]}, "", True)
    feeds, what = given(found, infos, lambda count: Calibration({"x": x[:count]}, "", True))
    assert what == "10 of the samples served (--calib-samples 5: no more)" and np.array_equal(feeds["x"], x[:10])
    feeds, what = given(found, infos, lambda count: Calibration({"x": x[: min(count, 7)]}, "", True))
    assert what == "mirror images served too (--calib-samples 5: no more)" and np.array_equal(feeds["x"][::2], x[:5])
    words = Calibration({"x": images(5, 4)}, "", True)
    feeds, _ = given(words, [TensorInfo("x", F32, ("N", 4))], lambda count: words)
    assert len(feeds["x"]) == 5


def test_made_up_ones_differ_from_those_before():
    makers = more_synthetic_samples(
        Calibration({"x": images(3, 4), "k": np.float32(2)}, "", False),
        lambda seed: Calibration({"x": np.full((3, 4), seed, np.float32), "k": np.float32(9)}, "", False),
    )
    twice, four = (make() for make in makers)
    assert twice[1] == "6 made-up samples served (--calib-samples 3: no more)"
    assert four[1] == "12 made-up samples served (--calib-samples 3: no more)"
    assert len(twice[0]["x"]) == 6 and twice[0]["k"] == 2
    assert set(four[0]["x"][3:, 0]) == {1, 2, 3} and np.array_equal(four[0]["x"][:6], twice[0]["x"])


@pytest.mark.parametrize(("options", "ways"), [({}, 2), ({"calib_samples": 64}, 0), ({"calib": images(9, 1, 8, 8)}, 1)])
def test_as_many_as_asked_for(options, ways):
    comparison = comparison_with(model(), Options.make({"keep": 0.5, **options}), CPU)
    assert len(comparison.samples.more_samples(comparison.samples.fitted())) == ways


def test_a_run_says_so_and_gives_the_same_again(tmp_path):
    np.savez(tmp_path / "x.npz", x=images(56, 1, 8, 8))  # of which 16 are held out
    runs = [optimize(model(), keep=0.5, gate=False, calib=tmp_path / "x.npz") for _ in range(2)]
    said = "mirror images served too (--calib-samples 40: no more): 40 show some layer fewer places than it has inputs"
    assert all(said in result.notes for _, result in runs)
    assert runs[0][0].SerializeToString(deterministic=True) == runs[1][0].SerializeToString(deterministic=True)
    _, alone = optimize(model(), keep=0.5, gate=False, calib=tmp_path / "x.npz", calib_samples=40)
    assert not any("mirror" in note for note in alone.notes)
    _, made_up = optimize(model(), keep=0.5, gate=False)
    assert not any("made-up samples served" in note for note in made_up.notes)  # 256 are enough for 96 inputs


def test_where_fewer_fit_the_note_names_the_option():
    _, result = optimize(model(), keep=0.5, gate=False, calib=images(256, 1, 8, 8), memory_limit="300KB")
    (note,) = result.notes
    assert note.startswith("merged by weights: what a few samples take does not fit --memory-limit; ")
