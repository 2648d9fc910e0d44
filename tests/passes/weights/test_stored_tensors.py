"""Stored tensors hold their values in files, and arrays of mapped files travel between tensors without a copy."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from passes.weights.mapped_files import FilePlace, MappedFiles
from passes.weights.stored_tensors import (
    MAPPED,
    array_of,
    bring_into_memory,
    can_be_stored,
    discarding_weights,
    in_memory,
    is_stored,
    may_be_stored,
    place_of,
    start_storing,
    store_at,
    stored_array,
    storing,
    storing_weights,
    tensor_of,
    without_values,
)
from passes.weights.tuning import StoredWeightsTuning

SMALL = StoredWeightsTuning(model_bytes=64, tensor_bytes=32)


@pytest.fixture
def block(tmp_path):
    """A block in which weights are stored, however small."""
    with storing_weights(tmp_path, 1e6, SMALL):
        assert start_storing(64)
        yield


def values(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) - 3


def test_an_array_becomes_a_stored_tensor_and_an_array_again_without_a_copy(block):
    array = stored_array(values(4, 5))
    assert not array.flags.owndata
    np.testing.assert_array_equal(array, values(4, 5))
    tensor = tensor_of(array, "w")
    assert is_stored(tensor)
    assert not tensor.raw_data
    assert tensor.ByteSize() < 200
    assert np.shares_memory(array_of(tensor), array)
    assert place_of(tensor_of(array_of(tensor), "v")) == place_of(tensor)


def test_a_part_of_a_stored_array_is_stored_where_it_is_contiguous(block):
    array = stored_array(values(8, 4))
    part = tensor_of(array[2:6], "part")
    assert is_stored(part)
    np.testing.assert_array_equal(array_of(part), values(8, 4)[2:6])
    column = tensor_of(array[:, :2], "column")
    assert not is_stored(column)
    np.testing.assert_array_equal(numpy_helper.to_array(column), values(8, 4)[:, :2])
    np.testing.assert_array_equal(array_of(tensor_of(array.T, "turned")), values(8, 4).T)


def test_kernels_take_stored_arrays_as_they_are(block):
    array = stored_array(values(4, 4))
    assert np.shares_memory(np.require(array, np.float32, ["C", "A", "W"]), array)


def test_dropped_pages_are_read_again(block):
    array = stored_array(values(64, 64))
    MAPPED.drop_pages()
    np.testing.assert_array_equal(array, values(64, 64))


def test_pages_are_dropped_after_as_many_bytes_as_the_tuning_says(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(values(64).tobytes())
    files, dropped = MappedFiles(resident=600), []
    monkeypatch.setattr(files, "drop_pages", lambda: dropped.append(files._read))
    for _ in range(2):
        files.array(FilePlace(str(tmp_path / "w"), 0, 256), np.dtype(np.float32), (64,))
    assert not dropped
    files.note_read(256)
    assert dropped == [768]


def test_a_file_is_mapped_once(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(values(64).tobytes())
    files = MappedFiles(resident=2**20)
    first, second = (files.array(FilePlace(str(path), at, 128), np.dtype(np.float32), (32,)) for at in (0, 64))
    assert np.shares_memory(first, second)
    assert files.place_of(second) == FilePlace(str(path), 64, 128)
    files.close(str(path))
    assert files.place_of(second) is None
    np.testing.assert_array_equal(second, values(64)[16:48])


def test_a_file_goes_with_the_last_array_in_it(tmp_path):
    def files():
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    with storing_weights(tmp_path, 500, SMALL):
        start_storing(64)
        array = stored_array(values(10, 10))
        part = array[2:]
        assert len(files()) == 1
        del array
        assert len(files()) == 1
        del part
        assert files() == []
        tensor = tensor_of(stored_array(values(10, 10)), "w")  # there is room again
        assert len(files()) == 1
        np.testing.assert_array_equal(array_of(tensor), values(10, 10))


def test_small_arrays_and_texts_stay_in_memory(block):
    for array in (values(2), np.array(["a" * 99] * 9, object)):
        assert stored_array(array) is array


def test_outside_of_a_block_and_before_a_large_model_nothing_is_stored(tmp_path):
    array, tensor = values(99), numpy_helper.from_array(values(99), "w")
    assert stored_array(array) is array
    assert not can_be_stored(tensor)
    assert not may_be_stored(2**40)
    with storing_weights(tmp_path, 1e6, SMALL):
        assert not start_storing(63)
        assert not storing()
        assert stored_array(array) is array
        assert start_storing(64)
        assert stored_array(array) is not array
    assert not storing()
    assert list(tmp_path.iterdir()) == []


def test_without_room_arrays_stay_in_memory(tmp_path):
    with storing_weights(tmp_path, 500, SMALL):
        start_storing(64)
        first, second = stored_array(values(100)), stored_array(values(100))
        assert not first.flags.owndata
        assert second.flags.owndata


def test_a_full_disk_leaves_arrays_in_memory(block, monkeypatch):
    class Full:
        def __init__(self, *_):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", Full)
    array = values(100)
    assert stored_array(array) is array


def test_integers_that_may_name_sizes_are_not_stored(block):
    assert can_be_stored(numpy_helper.from_array(values(99), "w"))
    assert can_be_stored(numpy_helper.from_array(values(99).astype(np.int8), "w"))
    assert not can_be_stored(numpy_helper.from_array(np.arange(99), "sizes"))


def test_a_model_is_brought_into_memory_whole(block):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,5] y) { y = MatMul(x, w) }'
    )
    assert in_memory(model) is model
    assert without_values(model) is model
    model.graph.initializer.append(tensor_of(stored_array(values(4, 5)), "w"))
    model.graph.initializer[0].doc_string = "kept"
    whole = in_memory(model)
    assert is_stored(model.graph.initializer[0])
    tensor = whole.graph.initializer[0]
    assert (tensor.name, tensor.doc_string, list(tensor.dims)) == ("w", "kept", [4, 5])
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), values(4, 5))
    onnx.checker.check_model(whole)
    checked = without_values(model)
    onnx.checker.check_model(checked)
    assert [v.name for v in checked.graph.input] == ["x", "w"]


def test_a_plain_tensor_is_left_alone(block):
    tensor = numpy_helper.from_array(values(3), "w")
    before = tensor.SerializeToString()
    bring_into_memory(tensor)
    assert tensor.SerializeToString() == before


def test_a_tensor_with_other_external_data_is_not_stored():
    tensor = onnx.TensorProto(name="w", dims=[4], data_type=onnx.TensorProto.FLOAT)
    store_at(tensor, FilePlace("w.bin", 0, 16))
    assert not is_stored(tensor)


def test_what_tensors_refer_to_goes_with_the_block_in_which_they_serve(tmp_path):
    """Arrays of it stay valid, and the room serves again; what was stored before stays."""
    with storing_weights(tmp_path, 200, SMALL):
        start_storing(64)
        before = tensor_of(stored_array(values(4, 5)), "before")
        for _ in range(3):
            with discarding_weights():
                array = stored_array(values(5, 6))
                tensor = tensor_of(array, "w")
                assert is_stored(tensor)
                assert is_stored(tensor_of(stored_array(values(5, 6)), "full")) is False  # no room for both
            np.testing.assert_array_equal(array, values(5, 6))
            assert not (tmp_path / place_of(tensor).path).exists()
        np.testing.assert_array_equal(array_of(before), values(4, 5))
    with discarding_weights():  # nothing is stored
        assert stored_array(values(5, 6)).flags.owndata
