"""Write models and reports atomically, and never over the input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.io.contents import tensor_bytes
from onnx_merge.io.load import PROTOBUF_LIMIT, all_tensors, external_tensors, protobuf
from onnx_merge.io.wire_format import content_of, write_model
from onnx_merge.io.written_files import record
from onnx_merge.tuning.inputs import MODEL_FILES
from passes.graph.patch import copy_without_weights
from passes.weights.stored_tensors import bring_into_memory, is_stored

DIGITS, NAME_BYTES = 16, 200
"""Length of the hash in the name of a data file, in hexadecimal digits; and of the model's name in it, in bytes."""
ALIGNMENT = 4096
"""Size of a memory page. Tensors that start at a page boundary can be memory-mapped."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A file that was written."""

    path: Path
    sha256: str
    """SHA-256 of the .onnx file without external data, as `sha256sum` prints it."""
    size: int
    """In bytes, external data included."""


def check_destination(
    input_path: PathLike, output_path: PathLike, force: bool = False, protected: Iterable[Path] = ()
) -> None:
    """Refuse an output path that cannot be written, before compression begins.

    ``protected`` are other files that must not be overwritten, such as `LoadedModel.external_files`.

    Raises
    ------
    UsageError: the output is the input (under any name), a folder, a device or ``-``; or it exists and ``force`` is not
        set; or its folder is missing or not writable.
    """
    output = Path(output_path)
    if os.fspath(output_path) == "-":
        raise UsageError("a model is not written to standard output: name a file, such as ./- or smaller.onnx")
    if os.path.isdir(output) or os.fspath(output_path).endswith(("/", os.sep)):
        raise UsageError(f"{output} is a folder: name a file in it, such as {output / Path(input_path).name}")
    target = Path(os.path.realpath(output))
    if not os.path.isdir(target.parent):
        raise UsageError(f"the folder {target.parent} does not exist: create it first")
    if _same_file(target, Path(input_path)):
        raise UsageError(f"{output} is the input itself, which is never overwritten: choose another name")
    for file in protected:
        if any(_same_file(written, file) for written in (target, *_data_files(target))):
            raise UsageError(f"writing {output} would overwrite {file}, which the input needs: choose another name")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:  # for example, the name is too long for the file system
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error
    if mode and not stat.S_ISREG(mode):
        raise UsageError(f"{output} is not a regular file: choose another name")
    if mode and not force:
        raise UsageError(f"{output} exists: choose another name, or replace it with --force")
    # Permissions are not sufficient: root, read-only mounts and quotas have their own rules.
    probe = temporary_name(target)
    try:
        os.close(_create(probe))
    except OSError as error:
        raise UsageError(f"the folder {target.parent} cannot be written to: {error.strerror}") from error
    finally:
        probe.unlink(missing_ok=True)


def save_atomically(model: onnx.ModelProto, path: PathLike, external: bool = False) -> SavedModel:
    """Write ``model`` to ``path`` so that the file there is at any time the old one or the whole new one.

    The bytes are written to a temporary file in the same folder, flushed to the disk, and renamed. If anything goes
    wrong, an interrupt included, the temporary files are removed. A symbolic link at ``path`` is followed.

    Models over 2 GB, and others where ``external`` is set, keep their large tensors in a file beside the model. Its
    name contains a hash of its content, so that it replaces no data that the old model needs. Data that only the old
    model needed is removed last. ``model`` is not changed.

    Raises
    ------
    OnnxMergeError: the disk is full, or the file cannot be written for another reason.
    InputError: tensors of the model are in other files.
    """
    if outside := [tensor for tensor in external_tensors(model) if not is_stored(tensor)]:
        raise InputError(f"the data of tensor {outside[0].name!r} is in another file: load it first (load_model does)")
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        # As root, a rename would replace the device itself.
        raise OnnxMergeError(f"{target} is not a regular file: choose another name")
    temporary, temporary_data = temporary_name(target), temporary_name(target)
    data: Path | None = None
    data_is_new = False
    data_size = 0
    try:
        if external or needs_external_data(model):
            with new_file(temporary_data) as sink:
                model, digest = _externalise(model, sink)
            data_size = temporary_data.stat().st_size
            if data_size:
                data = _data_file(target, digest)
                _point_to(model, data.name)
            else:  # every tensor stays in the model
                temporary_data.unlink()
        with new_file(temporary) as sink:
            digest, size = _write(model, sink.write)
        before = _data_of(target)
        if data is not None:
            data_is_new = not os.path.exists(data)
            os.replace(temporary_data, data)
        os.replace(temporary, target)
        record(target)
        for file in before - {data}:
            with contextlib.suppress(OSError):  # the new model is complete without this
                file.unlink(missing_ok=True)
    except BaseException as error:
        unfinished = [temporary, temporary_data]
        if data is not None and data_is_new and temporary.exists():  # the data was renamed, the model was not
            unfinished.append(data)
        for file in unfinished:
            with contextlib.suppress(OSError):  # the first error is the one to report
                file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OnnxMergeError(f"{target} cannot be written: {_why(error)}") from error
        if isinstance(error, protobuf.EncodeError):
            raise OnnxMergeError(f"{target} cannot be written: the graph without its weights exceeds 2 GB") from error
        raise
    return SavedModel(target, digest, size + data_size)


def sha256_of_model(model: onnx.ModelProto) -> str:
    """The SHA-256 of the file that ``model`` would be, which is at most 2 GB."""
    return _write(model, lambda part: None)[0]


def _write(model: onnx.ModelProto, write: Callable[[Any], object]) -> tuple[str, int]:
    """Hand the bytes of ``model`` to ``write``. Returns their SHA-256 and number."""
    digest, size = hashlib.sha256(), 0

    def counted(part: Any) -> None:
        nonlocal size
        write(part)
        digest.update(part)
        size += len(part)

    if any(map(is_stored, model.graph.initializer)):
        write_model(model, counted)
    else:
        counted(model.SerializeToString())
    return digest.hexdigest(), size


def write_whole(content: bytes, path: PathLike, what: str) -> None:
    """Write ``content`` to ``path`` atomically. ``what`` names the file in the error message.

    Raises
    ------
    OnnxMergeError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = temporary_name(target)
    try:
        with new_file(temporary) as sink:
            sink.write(content)
        os.replace(temporary, target)
        record(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OnnxMergeError(f"{what} {target} cannot be written: {error.strerror or error}") from error
        raise


def needs_external_data(model: onnx.ModelProto, stored: bool = True) -> bool:
    """Whether ``model`` is too large to be a single file. ``stored``: with the values of its stored tensors."""
    return (
        sum(tensor_bytes(t) for t in all_tensors(model) if stored or not is_stored(t))
        > PROTOBUF_LIMIT - MODEL_FILES.headroom
    )


def _externalise(model: onnx.ModelProto, sink: BinaryIO) -> tuple[onnx.ModelProto, str]:
    """A copy of ``model`` whose large initializers are written to ``sink`` one after another, and the SHA-256 of
    ``sink``.

    At most one large tensor is copied at a time. The copy does not yet refer to the file of the tensors: see
    `_point_to`.
    """
    bare = copy_without_weights(model)
    digest = hashlib.sha256()
    position = 0
    for tensor in model.graph.initializer:
        text = tensor.data_type == onnx.TensorProto.STRING
        if text or tensor_bytes(tensor) < MODEL_FILES.inline_bytes:
            bare.graph.initializer.add().CopyFrom(tensor)
            bring_into_memory(bare.graph.initializer[-1])
            continue
        content: Any
        if is_stored(tensor):
            content = content_of(tensor)
        elif tensor.HasField("raw_data"):
            content = tensor.raw_data
        else:
            content = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        padding = -position % ALIGNMENT
        for part in (bytes(padding), content):
            sink.write(part)
            digest.update(part)
        entry = onnx.TensorProto(
            name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, doc_string=tensor.doc_string, raw_data=b""
        )
        entry.metadata_props.extend(tensor.metadata_props)
        set_external_data(entry, "", position + padding, len(content))
        entry.ClearField("raw_data")
        bare.graph.initializer.append(entry)
        position += padding + len(content)
    return bare, digest.hexdigest()


def _point_to(model: onnx.ModelProto, location: str) -> None:
    """Set the file name of the external initializers of ``model``, relative to its folder."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def _data_file(target: Path, digest: str) -> Path:
    """The path of the external data of the model at ``target``, by the SHA-256 of the data."""
    return target.with_name(f"{_stem(target)}.{digest[:DIGITS]}.data")


def _stem(target: Path) -> str:
    """The start of the names of the model's data files: valid UTF-8, as ONNX requires, and short, so that the suffix
    fits into the longest file name."""
    return os.fsencode(target.name)[:NAME_BYTES].decode("utf-8", "ignore")


def _data_files(target: Path) -> list[Path]:
    """Existing files whose names mark them as data of a model at ``target``; also names without a hash, as earlier
    versions wrote them."""
    stem = re.escape(_stem(target))
    known = re.compile(rf"{stem}(\.[0-9a-f]{{{DIGITS}}})?\.data")
    try:
        return sorted(path for path in target.parent.iterdir() if known.fullmatch(path.name))
    except OSError:  # the folder can be written to, but not listed
        return []


def _data_of(target: Path) -> set[Path]:
    """The data files that the model at ``target`` refers to and that, by their names, belong to it; but those that
    another model in its folder may need, such as a copy."""
    files = _data_files(target)
    if not files or not target.is_file():
        return set()
    try:
        old = onnx.ModelProto.FromString(target.read_bytes())
    except (OSError, protobuf.DecodeError):
        return set()  # not a model
    named = {entry.value for tensor in external_tensors(old) for entry in tensor.external_data}
    others = [other for other in target.parent.glob("*.onnx") if not _same_file(target, other)]
    return {file for file in files if file.name in named and not any(_may_name(other, file) for other in others)}


def _may_name(model: Path, file: Path) -> bool:
    """Whether the model names the data file, or is too large or cannot be read, so that it may."""
    try:
        return model.stat().st_size > MODEL_FILES.searched or os.fsencode(file.name) in model.read_bytes()
    except OSError:
        return True


def temporary_name(target: Path) -> Path:
    """An unused name in the target's folder. It does not contain the target's name, which may already have the maximum
    length."""
    return target.with_name(f".onnx_merge-{secrets.token_hex(8)}.tmp")


def _create(path: Path) -> int:
    """Open a new file with the default permissions of the umask; `tempfile` would make it private."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, whose content is flushed to the disk when the block ends."""
    with os.fdopen(_create(path), "wb") as sink:
        yield sink
        sink.flush()
        os.fsync(sink.fileno())


def _same_file(one: Path, other: Path) -> bool:
    """Whether both paths are the same file, also through symbolic or hard links."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    return error.strerror or str(error)
