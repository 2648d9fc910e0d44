"""Random inputs for any signature, and the user's samples, checked."""

import numpy as np
import onnx.parser
import pytest

from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.inputs.user_arrays import check_labels, conform, load_samples
from onnx_merge.runtime.tensor_info import BFLOAT16, TensorInfo

IMAGE = TensorInfo("image", np.dtype(np.float32), ("N", 3, 2, 2))


def info(name="x", dtype=np.float32, shape=("N", 4)):
    return TensorInfo(name, np.dtype(dtype), shape)


def one(dtype, shape=(1000,), name="x", **kwargs):
    return random_feeds([info(name, dtype, shape)], **kwargs)[name]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, BFLOAT16])
def test_floats_are_standard_normal(dtype):
    values = one(dtype)
    assert values.dtype == dtype
    assert abs(float(values.astype(np.float64).mean())) < 0.15
    assert 0.9 < float(values.astype(np.float64).std()) < 1.1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint16, bool])
def test_integers_are_zero_or_one(dtype):
    values = one(dtype)
    assert values.dtype == dtype
    assert set(values.tolist()) == {0, 1}


def test_integers_below_a_bound_pixels_and_masks():
    assert set(one(np.int64, upper={"x": 5}).tolist()) == {0, 1, 2, 3, 4}
    assert one(np.int8, upper={"x": 30_000}).max() <= 127
    assert one(bool, upper={"x": 30_000}).dtype == bool
    assert one(np.uint8, (1, 3, 16, 16)).max() > 200
    assert one(np.int64, name="attention_mask").min() == 1


def test_strings_cannot_be_made_up():
    with pytest.raises(InputError, match="takes strings"):
        one(object)


def test_the_seed_decides_and_the_other_inputs_do_not():
    a, b = info("a"), info("b")
    assert np.array_equal(random_feeds([a, b], seed=1)["b"], random_feeds([b], seed=1)["b"])
    assert not np.array_equal(random_feeds([a], seed=1)["a"], random_feeds([a], seed=2)["a"])
    feeds = random_feeds([a, b])
    assert not np.array_equal(feeds["a"], feeds["b"])


@pytest.mark.parametrize(
    ("shape", "arguments", "expected"),
    [
        ((), {}, ()),
        (("N", 4), {}, (1, 4)),
        (("N", 4), {"batch": 3}, (3, 4)),
        ((None, 4), {"batch": 3}, (3, 4)),
        ((2, 4), {"batch": 3}, (2, 4)),
        (("N", "T"), {"batch": 3}, (3, 16)),
        (("N", "T"), {"batch": 3, "sizes": {"T": 5}}, (3, 5)),
        (("N", "N"), {"batch": 3}, (3, 3)),
        (("N", 3, None, None), {}, (1, 3, 224, 224)),
        ((None, None, None, None), {}, (1, 3, 224, 224)),
        ((None, None, None, 3), {}, (1, 224, 224, 3)),
        ((0, 3, -1, -1), {}, (0, 3, 224, 224)),  # onnxruntime takes no other number where 0 is declared
        ((None, 1, None, None, None), {}, (1, 1, 32, 32, 32)),
        (("N", 3, None, "W"), {"sizes": {"x": (2, 3, 8, 9)}}, (2, 3, 8, 9)),
        (("N", 3, None, "W"), {"sizes": {"x": (1, 3, 8, 9)}, "batch": 4}, (4, 3, 8, 9)),
        ((None, 3, None, "W"), {"sizes": {"x": (1, 3, 8, 9)}, "batch": 4}, (4, 3, 8, 9)),
    ],
)
def test_shapes(shape, arguments, expected):
    assert one(np.float32, shape, **arguments).shape == expected


def test_a_symbol_has_one_size_in_all_inputs():
    feeds = random_feeds([info("a", shape=("N", "T")), info("b", shape=("N", "T", 2))], 2, sizes={"b": (1, 7, 2)})
    assert feeds["a"].shape == (2, 7)


@pytest.mark.parametrize(
    ("sizes", "hint"),
    [
        ({"z": 3}, "the model knows only: N, x"),
        ({"N": 0}, "sizes are positive"),
        ({"N": (3,)}, r"'N' is a dimension of input 'x' \(N, 4\), not an input: .* for instance x:3,4$"),
        ({"x": (1, 0)}, "sizes are positive"),
        ({"x": (1, 5)}, "shape \\(N, 4\\)"),
        ({"x": (1, 4, 1)}, "does not fit"),
    ],
)
def test_sizes_that_do_not_fit(sizes, hint):
    with pytest.raises(UsageError, match=hint):
        random_feeds([info()], sizes=sizes)


def test_index_bounds_follow_ids_to_their_table():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (int32[N,T] ids, int64[T] places, int64[N] free, float[N,2] x) => (float y)
        <float[7,2] words = {1,2,3,4,5,6,7,8,9,10,11,12,13,14}, float[2,5] columns = {1,2,3,4,5,6,7,8,9,10}>
        {
          long = Cast<to = 7>(ids)
          a = Gather(words, long)
          b = Gather<axis = 1>(columns, long)
          table = Constant<value = float[4] {1,2,3,4}>()
          c = Gather(table, places)
          d = Gather(x, free)
          y = Identity(c)
        }
    """)
    assert index_bounds(model) == {"ids": 5, "places": 4}


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "s.npz", **arrays)
    return tmp_path / "s.npz"


def images(count=5, dtype=np.float32):
    return np.arange(count * 12).reshape(count, 3, 2, 2).astype(dtype)


@pytest.mark.parametrize("key", ["image", "x", "arr_0"])
def test_the_only_array_of_a_single_input(tmp_path, key):
    samples = load_samples(saved(tmp_path, **{key: images()}), [IMAGE])
    np.testing.assert_array_equal(samples.feeds["image"], images())
    assert samples.labels is None


@pytest.mark.parametrize("key", ["y", "labels"])
def test_labels(tmp_path, key):
    samples = load_samples(saved(tmp_path, x=images(), **{key: np.arange(5, dtype=np.uint8)}), [IMAGE])
    assert samples.labels is not None and samples.labels.dtype == np.int64
    np.testing.assert_array_equal(samples.labels, np.arange(5))


def test_an_input_may_have_a_name_of_labels(tmp_path):
    samples = load_samples(saved(tmp_path, y=np.ones((5, 4), np.float32), labels=np.zeros(5)), [info("y")])
    assert list(samples.feeds) == ["y"] and samples.labels is not None


def test_several_inputs_and_extra_arrays(tmp_path):
    path = saved(tmp_path, image=images(), x=np.ones((5, 4), np.float32), other=np.ones(2))
    assert list(load_samples(path, [info(), IMAGE]).feeds) == ["x", "image"]


def test_npy(tmp_path):
    np.save(tmp_path / "s.npy", images())
    np.testing.assert_array_equal(load_samples(tmp_path / "s.npy", [IMAGE]).feeds["image"], images())
    with pytest.raises(InputError, match="lacks x, image"):
        load_samples(tmp_path / "s.npy", [info(), IMAGE])


@pytest.mark.parametrize(
    ("arrays", "hint"),
    [
        ({"a": images(), "b": images()}, "lacks image: found a, b"),
        ({"y": np.arange(5)}, "lacks image: found nothing"),
        ({"image": images()[0]}, r"must have shape \(N, 3, 2, 2\), not \(3, 2, 2\)"),
        ({"image": images().reshape(5, 2, 2, 3)}, "must have shape"),
        ({"image": images()[:0]}, "is empty"),
        ({"image": images(dtype=complex)}, "must be float32, not complex128"),
        ({"image": images() * np.float32(np.nan)}, "contains NaN"),
        ({"image": images(dtype=np.float64) * 1e300}, "do not fit into float32"),
        ({"image": images(), "labels": np.arange(4)}, r"labels must have shape \(5,\)"),
        ({"image": images(), "labels": np.arange(5) + 0.5}, "whole class numbers"),
        ({"image": images(), "labels": np.array(list("abcde"))}, "class numbers from 0"),
        ({"image": np.array([object()])}, "it holds Python objects"),
    ],
)
def test_arrays_that_are_refused(tmp_path, arrays, hint):
    with pytest.raises(InputError, match=hint) as caught:
        load_samples(saved(tmp_path, **arrays), [IMAGE])
    assert "\n" not in str(caught.value) and "s.npz" in str(caught.value)


def test_unequal_numbers_of_samples(tmp_path):
    with pytest.raises(InputError, match="different numbers of samples"):
        load_samples(saved(tmp_path, image=images(), x=np.ones((4, 4), np.float32)), [info(), IMAGE])


@pytest.mark.parametrize(
    ("name", "content"),
    [("s.npz", b"text"), ("s.npz", b"PK\x03\x04cut"), ("s.npy", b""), ("s.npy", b"\x93NUMPY\x01\0v\0{'de")],
)
def test_files_that_are_no_arrays(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as NumPy arrays"):
        load_samples(tmp_path / name, [IMAGE])


def test_a_cut_archive(tmp_path):
    path = saved(tmp_path, image=images())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be read"):
        load_samples(path, [IMAGE])


def test_files_that_are_missing_or_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_samples(tmp_path / "s.npz", [IMAGE])
    with pytest.raises(InputError, match="no sample file"):
        load_samples(tmp_path / "s.csv", [IMAGE])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.float64, np.float32),
        (np.float32, np.float16),
        (np.float32, BFLOAT16),
        (np.float16, np.float64),
        (np.uint8, np.float32),
        (np.int64, np.int32),
        (np.int64, np.uint8),
        (bool, np.int64),
        (bool, np.float32),
        (bool, bool),
    ],
)
def test_types_that_convert(given, wanted):
    array = np.array([[0, 1, 1, 0]], given)
    result = conform(array, info(dtype=wanted), "here")
    assert result.dtype == wanted
    np.testing.assert_array_equal(result.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.zeros((1, 4), np.float32), np.int64),
        (np.zeros((1, 4), np.int64), bool),
        (np.full((1, 4), 256), np.uint8),
        (np.full((1, 4), -1), np.uint64),
        (np.full((1, 4), 70_000, np.float32), np.float16),
        (np.full((1, 4), "a"), np.float32),
        (np.zeros((1, 4), np.float32), object),
    ],
)
def test_types_that_do_not(array, wanted):
    with pytest.raises(InputError, match="here: 'x'"):
        conform(array, info(dtype=wanted), "here")


def test_infinities_of_the_user_stay():
    array = np.array([[0, -np.inf, 1, 2]])
    np.testing.assert_array_equal(conform(array, info(), "here"), array.astype(np.float32))


def test_a_fixed_batch_takes_any_number_of_samples():
    assert conform(np.zeros((5, 4), np.float32), info(shape=(1, 4)), "here").shape == (5, 4)


def test_labels_in_other_forms():
    expected = [2, 0, 1]
    for labels in (np.eye(3)[expected], np.array(expected)[:, None], np.array(expected, np.float32)):
        np.testing.assert_array_equal(check_labels(labels, 3, "here"), expected)
    with pytest.raises(InputError):
        check_labels(np.ones((3, 3)), 3, "here")
