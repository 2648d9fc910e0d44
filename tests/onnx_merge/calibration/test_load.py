"""Calibration samples: every kind of source, reproducible choice, and error messages for samples that do not fit."""

import importlib
import pickle
import sys

import numpy as np
import onnx.parser
import pytest

from onnx_merge.calibration import load as load_module
from onnx_merge.calibration.input_ranges import given_ranges
from onnx_merge.calibration.load import Calibration, load_calibration
from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, UsageError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import SyntheticTuning

X = TensorInfo("x", np.dtype(np.float32), ("N", 4))
IDS = TensorInfo("ids", np.dtype(np.int64), ("N", "T"))
ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)


def image_input(*shape, dtype=np.float32):
    return TensorInfo("image", np.dtype(dtype), shape)


def load(source, *inputs, **arguments):
    return load_calibration(source, inputs or (X,), **arguments)


def refused(source, *inputs, kind=InputError, **arguments):
    with pytest.raises(kind) as caught:
        load(source, *inputs, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Reader:
    def __init__(self, items):
        self.items = iter(items)

    def get_next(self):
        return next(self.items, None)


def script(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_files_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", anything=ROWS, labels=np.arange(10))
    np.save(tmp_path / "a.npy", ROWS.astype(np.float64))
    for name in ("a.npz", "a.npy"):
        found = load(tmp_path / name)
        assert found.source == name and found.real and len(found) == 10
        assert found.feeds["x"].dtype == np.float32 and np.array_equal(found.feeds["x"], ROWS)
        assert np.array_equal(load(str(tmp_path / name), count=4).feeds["x"], ROWS[[0, 3, 6, 9]])


def test_several_inputs(tmp_path):
    np.savez(tmp_path / "a.npz", x=ROWS, ids=np.ones((10, 3), np.int32))
    found = load(tmp_path / "a.npz", X, IDS)
    assert found.feeds["ids"].shape == (10, 3) and found.feeds["ids"].dtype == np.int64
    assert "lacks ids: found x" in refused({"x": ROWS}, X, IDS)
    assert "different numbers of samples" in refused({"x": ROWS, "ids": np.ones((3, 3), int)}, X, IDS)
    assert "give a dict of x, ids" in refused([ROWS], X, IDS)


def test_folders_of_arrays(tmp_path):
    for k in range(5):
        np.save(tmp_path / f"{k}.npy", ROWS[2 * k : 2 * k + 2] if k % 2 else ROWS[2 * k])
    found = load(tmp_path)
    assert found.source == "folder of 5 array files"
    assert np.array_equal(found.feeds["x"], ROWS[[0, 2, 3, 4, 6, 7, 8]])
    assert np.array_equal(load(tmp_path, count=3).feeds["x"], ROWS[[0, 4, 8]])
    np.save(tmp_path / "9.npy", np.ones((2, 5), np.float32))
    assert "9.npy: 'x' must have shape (N, 4)" in refused(tmp_path)


def test_samples_of_different_sizes(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1, 3), int))
    np.save(tmp_path / "b.npy", np.ones((1, 4), int))
    assert "'ids' has samples of different shapes, (3,) and (4,)" in refused(tmp_path, IDS)


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        {"x": ROWS},
        list(ROWS),
        [{"x": row} for row in ROWS],
        [{"x": row[None]} for row in ROWS],
        [ROWS[:4], ROWS[4:8], ROWS[8:]],
        (list(range(10)), lambda k: ROWS[k]),
        (list(range(10)), lambda k: {"x": ROWS[k]}),
        (np.arange(10), lambda k: ROWS[k]),
        lambda: list(ROWS),
    ],
)
def test_from_python(source):
    found = load(source)
    assert found.source == "arrays from Python" and np.array_equal(found.feeds["x"], ROWS)


def test_of_a_sequence_samples_are_evenly_spaced_and_of_a_stream_the_first():
    assert np.array_equal(load(list(ROWS), count=4).feeds["x"], ROWS[[0, 3, 6, 9]])
    batches = [ROWS[k : k + 2] for k in range(0, 10, 2)]
    assert np.array_equal(load(batches, count=4).feeds["x"], ROWS[[0, 1, 8, 9]])
    assert np.array_equal(load(iter(ROWS), count=4).feeds["x"], ROWS[:4])
    assert np.array_equal(load(Reader({"x": row[None]} for row in ROWS), count=4).feeds["x"], ROWS[:4])

    def endless():
        while True:
            yield ROWS

    assert len(load(endless(), count=25)) == 25
    assert len(load(endless, count=25)) == 25


def test_what_python_gives_is_checked():
    assert refused([]) == "calib gave no samples"
    assert "sample 1: 'x' must have shape (N, 4), not (1, 3)" in refused([ROWS[0], ROWS[0, :3]])
    assert "calib: int cannot be read: give arrays" in refused(3)
    assert "sample 0 holds str instead of an array" in refused(["a"])
    assert "what is no array" in refused([[1, [2, 3]]])
    assert "must be float32, not object" in refused([np.array([None] * 4)])
    assert "contains NaN" in refused(ROWS * np.nan)
    assert "at least 1 sample" in refused(ROWS, kind=UsageError, count=0)
    assert "failed: ZeroDivisionError" in refused(([1], lambda k: k / 0))


@pytest.mark.parametrize(
    "body", ["return ROWS", "yield from ROWS", "return {'x': ROWS}", "return [0, 5], lambda k: ROWS[k:k + 5]"]
)
def test_a_function_in_a_file(tmp_path, body):
    (tmp_path / "beside.py").write_text("import numpy as np\nROWS = np.arange(40.0).reshape(10, 4)\n")
    path = script(tmp_path, f"from beside import ROWS\ndef samples():\n    {body}\n")
    before = list(sys.path)
    found = load(f"{path}:samples")
    assert found.source == "mine.py:samples" and np.array_equal(found.feeds["x"], ROWS)
    assert sys.path == before
    del sys.modules["beside"]


def test_functions_that_cannot_be_had(tmp_path):
    path = script(tmp_path, "def fails():\n    raise KeyError('a')\ndef text():\n    return 'calib.npz'\n")
    assert "has no function 'other'" in refused(f"{path}:other")
    assert "fails failed: KeyError: 'a'" in refused(f"{path}:fails")
    assert "str cannot be read" in refused(f"{path}:text")
    assert "none.py does not exist" in refused(f"{tmp_path}/none.py:f")
    path.write_text("def f(:\n")
    assert "f failed: SyntaxError" in refused(f"{path}:f")


def test_files_that_cannot_be_read(tmp_path):
    assert "does not exist: give an .npz or .npy file, a folder" in refused("sythetic")
    assert "does not exist" in refused(tmp_path / "a.npz")
    assert "holds no .npz or .npy files and no images" in refused(tmp_path)
    script(tmp_path, "")
    assert "mine.py is no calibration data: give" in refused(tmp_path / "mine.py")
    (tmp_path / "a.npy").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    assert "holds both arrays and images" in refused(tmp_path)
    assert "is no folder" in refused((tmp_path / "a.npy", lambda path: path))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    array = np.array([Trap()], object)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "a.npz", "b.npy"):
        assert "cannot be read as NumPy arrays" in refused(tmp_path / name)
    (tmp_path / "a.npz").write_text("hello")
    assert refused(tmp_path / "a.npz").endswith("it holds Python objects, or is no file of NumPy's")
    (tmp_path / "a.npz").unlink()
    assert "cannot be read as NumPy arrays" in refused(tmp_path)


def test_a_folder_and_a_function(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.txt").write_text(",".join(map(str, ROWS[k])))
    found = load((tmp_path, lambda path: np.loadtxt(path, delimiter=",")))
    assert np.array_equal(found.feeds["x"], ROWS[:3])


def test_made_up_and_none(monkeypatch):
    photo = image_input(1, 3, 16, 16)
    for source in (None, "auto", "synthetic"):
        found = load(source, photo, count=5)
        assert found.feeds["image"].shape == (5, 3, 16, 16) and found.source == "synthetic images" and not found.real
    assert np.array_equal(load(None, photo, seed=1).feeds["image"], load(None, photo, seed=1).feeds["image"])
    assert load(None).source == "synthetic samples"
    assert load("none").feeds == {} and len(load("none")) == 0
    monkeypatch.setattr(load_module, "SYNTHETIC", SyntheticTuning(bytes=9000))
    large = load("synthetic", image_input("N", 1, 16, 16), count=9)
    assert len(large) == 8 and large.notes == ("8 synthetic samples instead of 9: they are large",)


def test_samples_are_taken_evenly_spaced():
    whole = Calibration({"x": ROWS, "scalar": np.float32(1)}, "here", True)
    assert whole.take(10) is whole
    assert np.array_equal(whole.take(2).feeds["x"], ROWS[[0, 9]]) and whole.take(2).feeds["scalar"] == 1


class TestImages:
    @pytest.fixture
    def folder(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        (tmp_path / "cat").mkdir()
        wide = np.zeros((8, 16, 3), np.uint8)
        wide[:, 4:12] = (255, 0, 51)  # the middle
        image.fromarray(wide).save(tmp_path / "a.png")
        image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "cat" / "b.bmp")
        image.fromarray(np.full((4, 8, 3), 255, np.uint8)).save(tmp_path / "cat" / "c.JPG")
        return tmp_path

    def test_are_cut_and_normalised(self, folder):
        found = load(folder, image_input("N", 3, 8, 8))
        assert found.source == "folder of 3 images" and found.real and "no mean and std" in found.notes[0]
        pixels = found.feeds["image"]
        assert pixels.shape == (3, 3, 8, 8) and pixels.dtype == np.float32
        assert np.allclose(pixels[0].transpose(1, 2, 0), [1, 0, 0.2], atol=0.01) and np.allclose(pixels[1], 1)
        last = load(folder, image_input("N", 8, 8, 3), mean=[0.5], std=(0.5, 1, 2))
        assert last.feeds["image"].shape == (3, 8, 8, 3) and last.notes == ()
        assert np.allclose(last.feeds["image"][0], [1, -0.5, -0.15], atol=0.01)

    @pytest.mark.parametrize("limits", [(0, 255), (255, 0), (1, -1)])
    def test_are_scaled_from_black_to_white(self, folder, limits):
        """Also where black is above white, as for models trained on inverted images."""
        inputs = image_input("N", 3, 8, 8)
        ranges = given_ranges([inputs], {}, limits, None, None)
        pixels = load(folder, inputs, ranges=lambda: ranges.known).feeds["image"]
        black, white = limits
        wanted = black + np.array([1, 0, 0.2]) * (white - black)
        assert np.allclose(pixels[0].transpose(1, 2, 0), wanted, atol=0.01 * 255)
        drawn = load("synthetic", inputs, count=8, ranges=lambda: ranges.known).feeds["image"]
        assert min(limits) <= drawn.min() < drawn.max() <= max(limits)

    def test_other_inputs(self, folder):
        assert load(folder, image_input("N", 1, 8, 8)).feeds["image"].shape == (3, 1, 8, 8)
        pixels = load(folder, image_input(1, 8, 8, 3, dtype=np.uint8)).feeds["image"]
        assert pixels.dtype == np.uint8 and pixels.max() == 255
        found = load(folder, image_input("N", 3, "H", "W"), sizes={"H": 6, "W": 10}, count=2)
        assert found.feeds["image"].shape == (2, 3, 6, 10) and "cut to 6 x 10" in found.notes[0]
        assert load(folder, image_input("N", 3, 8, 3), layout="nhwc").feeds["image"].shape == (3, 3, 8, 3)

    def test_pixels_of_a_model_that_divides_them(self, folder):
        model = onnx.parser.parse_model("""
            <ir_version: 8, opset_import: ["" : 17]> net (float[N,3,8,8] image) => (float y) <float s = {255}>
            { y = Div(image, s) }
        """)
        found = load(folder, image_input("N", 3, 8, 8), model=model)
        assert abs(found.feeds["image"].max() - 255) < 0.01 and "0 to 255" in found.notes[0]

    def test_that_do_not_fit(self, folder):
        photo = image_input("N", 3, 8, 8)
        assert "shape (N, 4): give arrays" in refused(folder)
        assert "neither 1, 3 nor 4 channels" in refused(folder, image_input("N", 2, 8, 8))
        assert "in the layout nhwc" in refused(folder, photo, layout="nhwc", kind=UsageError)
        assert "mean has 2 numbers" in refused(folder, photo, mean=(1, 2), kind=UsageError)
        assert "std must be positive" in refused(folder, photo, std=[0], kind=UsageError)
        taker = image_input("N", 3, 8, 8, dtype=np.uint8)
        assert "takes bytes" in refused(folder, taker, std=[1], kind=UsageError)
        assert "models with one input, not image, x" in refused(folder, photo, X)
        (folder / "a.webp").write_bytes(b"RIFF")
        assert "a.webp cannot be read as an image" in refused(folder, photo)

    def test_without_pillow(self, tmp_path, monkeypatch):
        (tmp_path / "a.png").write_bytes(b"")
        monkeypatch.setitem(sys.modules, "PIL", None)
        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        with pytest.raises(ImportError):
            importlib.import_module("PIL.Image")
        assert "pip install 'onnx_merge[images]'" in refused(tmp_path, image_input("N", 3, 8, 8), kind=UsageError)


class TestOptions:
    def test_sources(self):
        for word in ("synthetic", "none", "auto"):
            assert Options.make({"calib": word}).calib == word and Options.make({"calib": word}).calib_file is None
        assert str(Options.make({"calib": "a/b.py:f"}).calib_file) == "a/b.py"
        assert Options.make({"calib": "a.npz"}).has_samples and Options.make({"calib": ROWS}).has_samples
        assert not Options().has_samples and not Options(calib="none").has_samples
        for wrong in ("", 3, True, b"a"):
            with pytest.raises(UsageError, match="calib must be the name of a file, or samples"):
                Options.make({"calib": wrong})

    @pytest.mark.parametrize(
        ("text", "size"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("3", 3), (7, 7), ("2GiB", 2**31), ("1kB", 1000)]
    )
    def test_sizes(self, text, size):
        assert Options.make({"memory-limit": text}).memory_limit == size

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("memory-limit", "much", "must be a size, such as 2GB"),
            ("memory-limit", "2XB", "must be a size, such as 2GB"),
            ("memory-limit", "0GB", "must be a positive size"),
            ("mean", "a,b", "must be numbers, such as 0.485"),
            ("mean", [123.7, 116.3, 103.5], "mean must be from 0 to 1, not 123.7: it is of pixels from 0 to 1"),
            ("std", 0, "std must be above 0"),
            ("calib-samples", 0, "at least 1 sample"),
            ("layout", "chw", "layout must be one of auto, nchw, nhwc"),
        ],
    )
    def test_that_make_no_sense(self, name, value, said):
        with pytest.raises(UsageError) as caught:
            Options.make({name: value})
        assert said in str(caught.value)

    def test_numbers_for_pixels(self):
        assert Options.make({"mean": "0.5,0.25"}).mean == Options.make({"mean": [0.5, 0.25]}).mean == (0.5, 0.25)
        assert Options.make({"std": 0.5}).std == (0.5,) and Options().std is None


class TestComparison:
    MODEL = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
    )

    def compare(self, **options):
        return comparison_with(self.MODEL, Options.make({"keep": 1, "provider": "cpu", **options}), CPU)

    def test_the_samples_are_loaded_once_for_both_uses(self):
        comparison = self.compare(calib=iter(ROWS), calib_samples=5, check_n=8)
        assert comparison.samples.measured is not None and np.array_equal(
            comparison.samples.measured.feeds["x"], ROWS[:8]
        )
        found = comparison.samples.fitted()
        assert found is not None and found.real and len(found) == 5
        assert comparison.samples.source == "calib arrays from Python"

    def test_without_samples_the_outputs_are_compared_on_random_ones(self):
        comparison = self.compare()
        assert comparison.samples.measured is None and comparison.samples.source == "random"
        found = comparison.samples.fitted()
        assert found is not None and not found.real and len(found) == 256
        assert self.compare(calib="none").samples.fitted() is None

    def test_with_labels_both_are_loaded(self, tmp_path):
        np.savez(tmp_path / "l.npz", x=ROWS[:3], y=np.arange(3))
        comparison = self.compare(labels=tmp_path / "l.npz", calib=ROWS)
        assert comparison.samples.source.startswith("labels") and len(comparison.samples.measured.feeds["x"]) == 3
        assert len(comparison.samples.fitted()) == 10


class TestSizes:
    """Of the samples that are made up, where a model does not run at the usual sizes."""

    ROWS_48 = """net (float[N,3,H,W] x) => (float[?,?,?,?] y)
        <int64[1] i3 = {3}, int64[1] i4 = {4}, int64[3] to = {0,3,48}>
        { s = Shape(x)  w = Slice(s, i3, i4)  t = Concat<axis = 0>(to, w)  y = Reshape(x, t) }"""

    def compare(self, body, **options):
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {body}')
        return comparison_with(model, Options.make({"keep": 0.5, "provider": "cpu", **options}), CPU)

    def test_the_usual_ones_where_they_run(self):
        comparison = self.compare("net (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }", calib_samples=2)
        assert comparison.samples.fitted().feeds["x"].shape == (2, 3, 224, 224)
        assert all("MACs are counted at" in note for note in comparison.notes)
        assert len(comparison.original.assignments.found) >= 3

    def test_typical_ones_where_the_usual_do_not(self):
        comparison = self.compare(self.ROWS_48, calib_samples=2)
        assert comparison.samples.fitted().feeds["x"].shape == (2, 3, 48, 320)
        assert comparison.samples.batch(4)["x"].shape == (4, 3, 48, 320)
        counted, made = comparison.notes
        assert made == "samples are made at x:1,3,48,320, since the model does not run at x:1,3,224,224"
        assert counted.startswith("MACs are counted at H = 48, W = ")

    def test_the_largest_that_were_found_where_no_typical_ones_do(self):
        body = self.ROWS_48.replace("{0,3,48}", "{0,9,16}")
        shape = self.compare(body, calib_samples=2).samples.fitted().feeds["x"].shape
        assert shape[2] == 48

    def test_what_the_user_gave(self):
        comparison = self.compare(self.ROWS_48, calib_samples=2, input_shape=["x:1,3,48,64"])
        assert comparison.samples.fitted().feeds["x"].shape == (2, 3, 48, 64) and comparison.notes == ()
        with pytest.raises(UsageError, match="does not run at the sizes given, x:1,3,5,7"):
            self.compare(self.ROWS_48, input_shape=["x:1,3,5,7"])

    def test_a_model_that_runs_nowhere_is_refused(self):
        never = "net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[4] t = {7,3,1001,3}> { y = Reshape(x, t) }"
        with pytest.raises(UsageError, match="'x'.*--input-shape x:1,3,48,320"):
            self.compare(never)

    def test_the_users_samples_show_at_which_sizes_it_runs(self):
        body = "net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[4] t = {-1,3,101,3}> { y = Reshape(x, t) }"
        comparison = self.compare(body, calib={"x": np.ones((4, 3, 101, 3), np.float32)})
        assert comparison.original.assignments.found[0]["x"][2:] == (101, 3)

    def test_samples_may_run_where_nothing_made_up_does(self):
        body = """net (float[N,2] x, int64[M] n) => (float[?,?] y) { c = ConstantOfShape(n)  y = Add(x, c) }"""
        samples = {"x": np.ones((4, 2), np.float32), "n": np.array([4, 2, 1, 1])}
        comparison = self.compare(body, calib=samples)
        assert comparison.original.session.run(comparison.samples.compared())["y"].shape == (4, 2, 4, 2)

    def test_strings_are_not_made_up(self):
        with pytest.raises(InputError, match="strings, which cannot be made up: give samples with --calib"):
            self.compare("net (string[N] x) => (string[N] y) { y = Identity(x) }")

    def test_a_name_that_says_nothing_is_no_symbol(self):
        comparison = self.compare("net (float[A,3,B,C] x) => (float[?,?,?,?] y) { y = Relu(x) }")
        model = comparison.original.model
        for axis in (0, 2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "?"
        again = comparison_with(model, Options.make({"keep": 0.5, "provider": "cpu", "calib_samples": 2}), CPU)
        assert again.samples.fitted().feeds["x"].shape == (2, 3, 224, 224)
