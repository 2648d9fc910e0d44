"""Writing the result: all of it or nothing, and never over the input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.io.contents import tensor_bytes
from onnx_merge.io.load import PROTOBUF_LIMIT, all_tensors, external_tensors, protobuf

HEADROOM = 64 * 2**20
"""Bytes left under the protobuf limit for nodes and names, whose size is not worth computing."""
INLINE_BYTES = 1024
"""Tensors smaller than this stay in the .onnx file: shape inference wants to read them."""
DIGITS, LONGEST = 16, 200
"""Hexadecimal digits of its hash in the name of a data file; bytes of the model's name in it."""
ALIGNMENT = 4096
"""A memory page: tensors that start on one can be mapped instead of read."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A file as it was written."""

    path: Path
    sha256: str
    """Of the .onnx file alone, as `sha256sum` prints it."""
    size: int
    """Bytes, external data included."""


def check_destination(
    input_path: PathLike, output_path: PathLike, force: bool = False, protected: Iterable[Path] = ()
) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    ``protected`` are further files that must survive, such as `LoadedModel.external_files`.

    Raises
    ------
    UsageError: the output is the input (under whatever name), a folder or a device; exists and ``force`` is not set;
        or lies in a folder that is missing or cannot be written to.
    """
    output = Path(output_path)
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
    except OSError as error:  # a name too long for the file system, for one
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error
    if mode and not stat.S_ISREG(mode):
        raise UsageError(f"{output} is not a regular file: choose another name")
    if mode and not force:
        raise UsageError(f"{output} exists: choose another name, or replace it with --force")
    # Permissions alone do not tell: root, read-only mounts and quotas have their own rules.
    probe = temporary_name(target)
    try:
        os.close(_create(probe))
    except OSError as error:
        raise UsageError(f"the folder {target.parent} cannot be written to: {error.strerror}") from error
    finally:
        probe.unlink(missing_ok=True)


def save_atomically(model: onnx.ModelProto, path: PathLike) -> SavedModel:
    """Write ``model`` to ``path`` so that the file there is at any time the old one or the whole new one.

    The bytes go to a temporary file in the same folder, reach the disk, and are renamed; whatever goes wrong, an
    interrupt included, the temporary files are removed. A symbolic link at ``path`` is followed. Models over 2 GB keep
    their large tensors in a file beside the model, which has a hash of its content in its name, so that it replaces no
    data that the old model needs; what only that one needed is removed in the end. ``model`` is not changed.

    Raises
    ------
    OnnxMergeError: the disk is full, or the file cannot be written for another reason.
    InputError: tensors of the model are in other files.
    """
    if outside := external_tensors(model):
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
        if needs_external_data(model):
            with new_file(temporary_data) as sink:
                model, digest = _externalise(model, sink)
            data_size = temporary_data.stat().st_size
            data = _data_file(target, digest)
            _point_to(model, data.name)
        content = model.SerializeToString()
        with new_file(temporary) as sink:
            sink.write(content)
        before = _data_of(target)
        if data is not None:
            data_is_new = not os.path.exists(data)
            os.replace(temporary_data, data)
        os.replace(temporary, target)
        for file in before - {data}:
            with contextlib.suppress(OSError):  # the new model is whole all the same
                file.unlink(missing_ok=True)
    except BaseException as error:
        unfinished = [temporary, temporary_data]
        if data is not None and data_is_new and temporary.exists():  # the data has its name already, the model has not
            unfinished.append(data)
        for file in unfinished:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OnnxMergeError(f"{target} cannot be written: {_why(error)}") from error
        if isinstance(error, protobuf.EncodeError):
            raise OnnxMergeError(f"{target} cannot be written: the graph without its weights exceeds 2 GB") from error
        raise
    return SavedModel(target, hashlib.sha256(content).hexdigest(), len(content) + data_size)


def write_whole(content: bytes, path: PathLike, what: str) -> None:
    """Write ``content`` to ``path``: all of it or nothing. ``what`` it is, for the error message.

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
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OnnxMergeError(f"{what} {target} cannot be written: {error.strerror or error}") from error
        raise


def needs_external_data(model: onnx.ModelProto) -> bool:
    """Whether ``model`` is too large to be one file."""
    return sum(tensor_bytes(t) for t in all_tensors(model)) > PROTOBUF_LIMIT - HEADROOM


def _externalise(model: onnx.ModelProto, sink: BinaryIO) -> tuple[onnx.ModelProto, str]:
    """Copy of ``model`` whose large initializers are in ``sink``, one after the other, and the SHA-256 of ``sink``.

    They are never all copied. The copy does not say yet where they are: see `_point_to`.
    """
    bare = _without_initializers(model)
    digest = hashlib.sha256()
    position = 0
    for tensor in model.graph.initializer:
        text = tensor.data_type == onnx.TensorProto.STRING
        if text or tensor_bytes(tensor) < INLINE_BYTES:
            bare.graph.initializer.add().CopyFrom(tensor)
            continue
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        if not copy.HasField("raw_data"):
            copy.raw_data = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
        content = copy.raw_data
        padding = -position % ALIGNMENT
        for part in (bytes(padding), content):
            sink.write(part)
            digest.update(part)
        entry = onnx.TensorProto(
            name=copy.name, dims=copy.dims, data_type=copy.data_type, doc_string=copy.doc_string, raw_data=b""
        )
        entry.metadata_props.extend(copy.metadata_props)
        set_external_data(entry, "", position + padding, len(content))
        entry.ClearField("raw_data")
        bare.graph.initializer.append(entry)
        position += padding + len(content)
    return bare, digest.hexdigest()


def _point_to(model: onnx.ModelProto, location: str) -> None:
    """Say where the external initializers of ``model`` are: a file in its folder."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def _without_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of ``model`` without the initializers of its main graph."""
    bare = onnx.ModelProto()
    for target, source, omitted in ((bare, model, "graph"), (bare.graph, model.graph, "initializer")):
        for field, value in source.ListFields():
            if field.name == omitted:
                continue
            if isinstance(value, protobuf.Message):
                getattr(target, field.name).CopyFrom(value)
            elif isinstance(value, (str, int)):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).extend(value)
    return bare


def _data_file(target: Path, digest: str) -> Path:
    """Where the tensors of the model at ``target`` are, with this SHA-256."""
    return target.with_name(f"{_stem(target)}.{digest[:DIGITS]}.data")


def _stem(target: Path) -> str:
    """The first part of the names of its data files: text, as ONNX wants it, and short enough for what follows."""
    return os.fsencode(target.name)[:LONGEST].decode("utf-8", "ignore")


def _data_files(target: Path) -> list[Path]:
    """Files there that have the names of data of a model at ``target``; also as they were before, without a hash."""
    stem = re.escape(_stem(target))
    known = re.compile(rf"{stem}(\.[0-9a-f]{{{DIGITS}}})?\.data")
    try:
        return sorted(path for path in target.parent.iterdir() if known.fullmatch(path.name))
    except OSError:  # a folder that may be written to, but not listed
        return []


def _data_of(target: Path) -> set[Path]:
    """The data files that belong to the model at ``target`` alone, by their names, and that it does refer to."""
    files = _data_files(target)
    if not files or not target.is_file():
        return set()
    try:
        old = onnx.ModelProto.FromString(target.read_bytes())
    except (OSError, protobuf.DecodeError):
        return set()  # no model
    named = {entry.value for tensor in external_tensors(old) for entry in tensor.external_data}
    return {file for file in files if file.name in named}


def temporary_name(target: Path) -> Path:
    """A free name in the target's folder; it does not contain the target's, which may have the greatest length."""
    return target.with_name(f".onnx_merge-{secrets.token_hex(8)}.tmp")


def _create(path: Path) -> int:
    """Open a new file with the permissions that the umask gives any new file (`tempfile` would make it private)."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, whose content is on the disk when the block ends."""
    with os.fdopen(_create(path), "wb") as sink:
        yield sink
        sink.flush()
        os.fsync(sink.fileno())


def _same_file(one: Path, other: Path) -> bool:
    """Whether both names lead to one file, through whatever symbolic or hard links."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist
        return os.path.realpath(one) == os.path.realpath(other)


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    return error.strerror or str(error)
