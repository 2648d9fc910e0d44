"""All of the result or nothing, never over the input, and no temporary files left behind."""

import errno
import hashlib
import os
import stat

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.io import save
from onnx_merge.io.load import PROTOBUF_LIMIT, load_model
from onnx_merge.io.output_paths import Destinations
from onnx_merge.io.save import check_destination, needs_external_data, save_atomically
from onnx_merge.tuning.inputs import MODEL_FILES


def model(rows=4, scale=1.0):
    m = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17], producer_name: "someone">
        net (float[N,{rows}] x) => (float[N,2] y) {{ h = MatMul(x, w)  y = Add(h, b) }}
    """)
    w = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) * scale
    m.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    m.graph.initializer.append(onnx.helper.make_tensor("b", onnx.TensorProto.FLOAT, [2], [0.5, -0.5]))
    m.metadata_props.add(key="author", value="me")
    return m


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(model(), path)
    return path


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def data_name(folder):
    """Of the only data file there: it has a hash of its content in it."""
    (path,) = folder.glob("*.data")
    assert path.name == f"out.onnx.{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.data"
    return path.name


def refused(*args, **kwargs):
    with pytest.raises(UsageError) as caught:
        check_destination(*args, **kwargs)
    return str(caught.value)


def test_a_new_file_in_an_existing_folder_is_accepted(source, tmp_path, monkeypatch):
    check_destination(source, tmp_path / "out.onnx")
    monkeypatch.chdir(tmp_path)
    check_destination("in.onnx", "out.onnx")
    assert names(tmp_path) == ["in.onnx"]


def test_the_input_is_never_the_output(source, tmp_path, monkeypatch):
    (tmp_path / "soft.onnx").symlink_to(source)
    (tmp_path / "hard.onnx").hardlink_to(source)
    monkeypatch.chdir(tmp_path)
    for output in (source, "in.onnx", "./in.onnx", "soft.onnx", "hard.onnx"):
        assert "is the input itself" in refused(source, output, force=True)
        assert "is the input itself" in refused("soft.onnx", output, force=True)


def test_files_the_input_needs_are_protected(source, tmp_path):
    for name in ("out.onnx.data", f"out.onnx.{16 * 'a'}.data"):
        data = tmp_path / name
        data.write_bytes(b"weights")
        assert "which the input needs" in refused(source, data, force=True, protected=[data])
        assert "which the input needs" in refused(source, tmp_path / "out.onnx", protected=[data])


def test_an_existing_output_needs_force(source, tmp_path):
    output = tmp_path / "out.onnx"
    output.write_bytes(b"precious")
    assert "--force" in refused(source, output)
    check_destination(source, output, force=True)
    assert output.read_bytes() == b"precious"


def test_folders_and_devices(source, tmp_path):
    assert f"such as {tmp_path / 'in.onnx'}" in refused(source, tmp_path, force=True)
    assert "is a folder" in refused(source, f"{tmp_path}/new/")
    assert "does not exist: create it" in refused(source, tmp_path / "new" / "out.onnx")
    assert "does not exist" in refused(source, source / "out.onnx")
    assert "not a regular file" in refused(source, os.devnull, force=True)
    assert "not written to standard output" in refused(source, "-", force=True)
    assert "too long" in refused(source, tmp_path / ("n" * 300))


def test_a_folder_that_cannot_be_written_to(source, tmp_path, monkeypatch):
    def deny(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(save, "_create", deny)
    assert "cannot be written to: Read-only file system" in refused(source, tmp_path / "out.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_write_permission(source, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "Permission denied" in refused(source, folder / "out.onnx")


def test_saved_bytes_hash_and_size(tmp_path):
    path = tmp_path / "out.onnx"
    saved = save_atomically(model(), path)
    content = path.read_bytes()
    assert onnx.load(path) == model()
    assert (saved.path, saved.sha256, saved.size) == (path, hashlib.sha256(content).hexdigest(), len(content))
    assert names(tmp_path) == ["out.onnx"]


def test_an_old_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "out.onnx"
    save_atomically(model(), path)
    reader = path.open("rb")  # whoever has the old file open keeps the old file
    save_atomically(model(scale=2.0), path)
    with reader:
        assert onnx.ModelProto.FromString(reader.read()) == model()
    assert onnx.load(path) == model(scale=2.0)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    previous = os.umask(umask)
    try:
        save_atomically(model(), tmp_path / "out.onnx")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o666 & ~umask


def test_a_link_is_followed(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "latest.onnx"
    link.symlink_to(tmp_path / "store" / "real.onnx")
    save_atomically(model(), link)
    assert link.is_symlink()
    assert names(tmp_path / "store") == ["real.onnx"]


def test_a_device_is_not_replaced(tmp_path):
    with pytest.raises(OnnxMergeError, match="not a regular file"):
        save_atomically(model(), os.devnull)
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, code, large):
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    if large:
        monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(save.os, "fsync", full)
    with pytest.raises(OnnxMergeError, match="the disk is full") as caught:
        save_atomically(model(rows=400), path)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["out.onnx"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_write_that_fails_for_real(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "_create", lambda path: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OnnxMergeError, match="the disk is full"):
        save_atomically(model(rows=40_000), tmp_path / "out.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize("calls_before", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, os.strerror(errno.EIO))])
def test_an_interrupt_at_the_renaming_leaves_nothing(tmp_path, monkeypatch, calls_before, error):
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)  # two files: the data is renamed first
    replace, calls = os.replace, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > calls_before:
            raise error
        replace(*args)

    monkeypatch.setattr(save.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OnnxMergeError):
        save_atomically(model(rows=400), tmp_path / "out.onnx")
    assert names(tmp_path) == []


def test_a_large_model_keeps_its_weights_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    original, path = model(rows=1000), tmp_path / "out.onnx"
    large = original.graph.initializer.add()
    large.CopyFrom(onnx.helper.make_tensor("unused", onnx.TensorProto.FLOAT, [600], np.arange(600.0)))
    before = original.SerializeToString()
    saved = save_atomically(original, path)
    assert original.SerializeToString() == before
    assert names(tmp_path) == ["out.onnx", data_name(tmp_path)]
    assert saved.size == sum(p.stat().st_size for p in tmp_path.iterdir())
    bare = onnx.load(path, load_external_data=False)
    w, b, unused = bare.graph.initializer
    assert [t.data_location for t in (w, b, unused)] == [1, 0, 1]
    assert int({e.key: e.value for e in unused.external_data}["offset"]) % save.ALIGNMENT == 0
    loaded = load_model(path).model
    for one, other in zip(loaded.graph.initializer, original.graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other))
    for m in (loaded, original):
        m.graph.ClearField("initializer")
    assert loaded == original


def values(path):
    return onnx.numpy_helper.to_array(load_model(path).model.graph.initializer[0])


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A large model that is there already."""
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    save_atomically(model(rows=400), tmp_path / "out.onnx")
    return tmp_path / "out.onnx"


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, os.strerror(errno.EIO))])
def test_a_failure_leaves_the_old_model_with_its_own_weights(old, monkeypatch, at, error):
    """At any of: the data reaches the disk, the model does, the data is renamed, the model is."""
    before = names(old.parent)
    steps = []

    def failing(function):
        def step(*args):
            steps.append(args)
            if len(steps) == at + 1:
                raise error
            return function(*args)

        return step

    for name in ("fsync", "replace"):
        monkeypatch.setattr(save.os, name, failing(getattr(os, name)))
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OnnxMergeError):
        save_atomically(model(rows=400, scale=2.0), old)
    assert len(steps) == at + 1 and names(old.parent) == before
    np.testing.assert_array_equal(values(old)[1], [2, 3])


def test_data_that_the_old_model_needed_is_removed_in_the_end(old):
    other = old.with_name("other.onnx")
    save_atomically(model(rows=400), other)
    mine = old.with_name(f"out.onnx.{16 * '0'}.data")  # of no model's that is here
    mine.write_bytes(b"whose?")
    first = {*names(old.parent)}
    save_atomically(model(rows=400, scale=2.0), old)
    gone, new = first - {*names(old.parent)}, {*names(old.parent)} - first
    assert len(gone) == len(new) == 1 and min(gone).startswith("out.onnx.") and min(new).startswith("out.onnx.")
    np.testing.assert_array_equal(values(old)[1], [4, 6])
    np.testing.assert_array_equal(values(other)[1], [2, 3])
    assert mine.exists()


def test_a_small_model_in_its_place_leaves_no_data(old, monkeypatch):
    monkeypatch.undo()
    save_atomically(model(), old)
    assert names(old.parent) == ["out.onnx"]


def test_no_data_file_where_every_tensor_stays_in_the_model(old):
    save_atomically(model(), old, external=True)
    assert names(old.parent) == ["out.onnx"]
    assert [t.data_location for t in onnx.load(old).graph.initializer] == [0, 0]


def test_the_same_again_keeps_its_data(old):
    before = names(old.parent)
    save_atomically(model(rows=400), old)
    assert names(old.parent) == before and values(old).shape == (400, 2)


def test_data_without_a_hash_is_replaced_too(tmp_path, monkeypatch):
    """As earlier versions and other tools named it."""
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    path = tmp_path / "out.onnx"
    onnx.save(model(rows=400), path, save_as_external_data=True, location="out.onnx.data")
    save_atomically(model(rows=400), path)
    assert names(tmp_path) == ["out.onnx", data_name(tmp_path)]


def test_data_that_another_model_needs_stays(old):
    """As a copy of the old model."""
    before = {*names(old.parent)}
    copy = old.with_name("copy.onnx")
    copy.write_bytes(old.read_bytes())
    save_atomically(model(rows=400, scale=2.0), old)
    assert before < {*names(old.parent)}
    onnx.load(copy)


def test_data_of_what_is_no_model_stays(old):
    before = names(old.parent)
    old.write_bytes(b"no model")
    save_atomically(model(rows=400, scale=2.0), old)
    assert {*before} < {*names(old.parent)}


def test_the_longest_name_has_room_for_data(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    path = tmp_path / ("\u00e4" * 125 + ".onnx")
    save_atomically(model(rows=400), path)
    assert values(path).shape == (400, 2) and len(names(tmp_path)) == 2


def test_tensors_still_outside_are_refused(tmp_path):
    (tmp_path / "old").mkdir()
    onnx.save(model(rows=400), tmp_path / "old" / "in.onnx", save_as_external_data=True, location="weights.bin")
    outside = onnx.load(tmp_path / "old" / "in.onnx", load_external_data=False)
    with pytest.raises(InputError, match="the data of tensor 'w' is in another file"):
        save_atomically(outside, tmp_path / "out.onnx")
    assert names(tmp_path) == ["old"]


def test_what_counts_as_large():
    assert not needs_external_data(model())
    huge = model()
    huge.graph.initializer[0].dims[0] = PROTOBUF_LIMIT  # the shape alone counts
    assert needs_external_data(huge)


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_was_made_during_the_run_is_not_replaced_unasked(tmp_path, force):
    destinations = Destinations(model(), tmp_path / "out.onnx", Options.make({"keep": 0.5, "force": force}))
    destinations.check()
    assert destinations.target(None) == tmp_path / "out.onnx"
    (tmp_path / "out.onnx").write_text("precious")
    if force:
        assert destinations.target(None) == tmp_path / "out.onnx"
    else:
        with pytest.raises(UsageError, match="was made during this run: choose another name"):
            destinations.target(None)
