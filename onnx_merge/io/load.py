"""Read and check an ONNX file. An invalid file is refused with a one-line reason."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import onnx
from onnx.external_data_helper import load_external_data_for_tensor

from onnx_merge.errors import InputError
from onnx_merge.io.checker import check_valid, checker_line
from onnx_merge.io.contents import check_tensor, check_tensors, check_text, check_types, tensor_bytes
from onnx_merge.io.hashes import sha256_of_files
from onnx_merge.io.node_order import sort_main_graph
from onnx_merge.io.stored_weights import LeftOut, keep_in_files, point_to, read_model
from passes.weights.stored_tensors import external_entries, is_stored, start_storing, without_values

protobuf = importlib.import_module("google.protobuf.message")
"""Imported by name, because the package has no type stubs."""

PROTOBUF_LIMIT = 2**31 - 1
"""Maximum bytes of a protobuf message. Larger models keep their tensors in separate files."""

MODEL_DOMAINS = {
    "": onnx.defs.onnx_opset_version,
    "ai.onnx": onnx.defs.onnx_opset_version,
    "ai.onnx.ml": onnx.defs.onnx_ml_opset_version,
}
MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer: fetch the model with `git lfs pull`"),
    (b"PK\x03\x04", "a ZIP archive: a PyTorch or Keras file must be exported to ONNX first"),
    (b"\x80\x02", "a Python pickle: a PyTorch checkpoint must be exported to ONNX first"),
    (b"\x89HDF\r\n", "an HDF5 file: a Keras model must be converted to ONNX first"),
    (b"\x1f\x8b", "gzip data: decompress it first"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"<!DOCTYPE", "a web page: download the model again"),
    (b"<html", "a web page: download the model again"),
)
"""First bytes of files that are often mistaken for ONNX models, and a description for the error message."""
FLATBUFFERS = {
    b"TFL3": "a TensorFlow Lite model: convert it to ONNX first",
    b"ORTM": "an ORT-format model: give the .onnx it was made from",
}


@dataclass(frozen=True, eq=False, slots=True)
class LoadedModel:
    """A checked model and its source."""

    model: onnx.ModelProto
    path: Path
    """The path that the user gave."""
    sha256: str
    """SHA-256 of the .onnx file without external data, as `sha256sum` prints it."""
    size: int
    """In bytes on disk, external data included."""
    external_files: tuple[Path, ...] = ()
    """Files that hold the model's external data. They are inputs and are never overwritten."""


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Read, parse and check the ONNX file at ``path``.

    External data is loaded into memory, also if the whole model then exceeds the 2 GB that protobuf can write. Where
    weights are stored (`passes.weights.stored_tensors`), the large ones of large models stay in files instead.

    Raises
    ------
    InputError: the file cannot be read, is not ONNX, is damaged, fails `onnx.checker`, or needs a newer onnx; or its
        external data is missing, truncated, or outside the model's folder.
    """
    path = Path(path)
    data, left_out = _read(path)
    model = _parse(data, path)
    try:
        check_text(model)
    except ValueError as error:
        raise InputError(f"{path} is not a valid model: {error}") from error
    _check_versions(model, path)
    external = external_tensors(model)
    folder = path.absolute().parent
    for tensor in external:
        _check_external(tensor, folder, path)
    try:
        point_to(model, left_out, path)
        moved = sort_main_graph(model)
        # Bytes and paths, not the ModelProto: the checker would serialise all its weights once more.
        inside = without_values(model).SerializeToString() if left_out or moved else data
        check_valid(os.fspath(path) if external else inside)
        check_types(model)
        check_tensors(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path} is not a valid model: {checker_line(error)}") from error
    files = tuple(sorted({folder / external_entries(t)["location"] for t in external}))
    if start_storing(max(path.stat().st_size, sum(map(tensor_bytes, all_tensors(model))))):
        keep_in_files(model, folder)
    for tensor in external:
        if not is_stored(tensor):
            bring_in(tensor, folder)
    return LoadedModel(
        model=model,
        path=path,
        sha256=sha256_of_files([path]) if left_out else hashlib.sha256(data).hexdigest(),
        size=path.stat().st_size + sum(file.stat().st_size for file in files),
        external_files=files,
    )


def _read(path: Path) -> tuple[bytes, LeftOut]:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: give the .onnx file inside it")
        if (size := path.stat().st_size) > PROTOBUF_LIMIT:
            raise InputError(
                f"{path} has {size / 1e9:.1f} GB, and an ONNX file cannot exceed 2 GB: save it with external data"
            )
        data, left_out = read_model(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the name and the folder ({Path.cwd()})") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not data:
        raise InputError(f"{path} is empty: export or download the model again")
    return data, left_out


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    damaged = f"{path} is damaged or cut short: export or download it again"
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except protobuf.DecodeError as error:
        if "MaxDepth" in str(error):
            raise InputError(f"{path} has graphs nested deeper than can be read") from error
        # Every writer in use puts ir_version first, which makes 8 the first byte.
        starts_like_onnx = data[0] == 8 and len(data) > 2
        raise InputError(damaged if starts_like_onnx else f"{path} is not an ONNX model{_looks_like(data)}") from error
    if not model.HasField("ir_version") or not model.HasField("graph"):
        # Unknown fields are legal in protobuf, so arbitrary bytes may parse by chance.
        raise InputError(f"{path} is not an ONNX model{_looks_like(data)}")
    if not model.opset_import and model.ir_version >= 3:
        raise InputError(damaged if model.graph.node else f"{path} is not an ONNX model: it has no nodes and no opset")
    return model


def _looks_like(data: bytes) -> str:
    """What the file seems to be, as the end of a sentence."""
    for magic, description in MAGIC:
        if data.startswith(magic):
            return f" but {description}"
    if data[4:8] in FLATBUFFERS:
        return f" but {FLATBUFFERS[data[4:8]]}"
    head = data[:512]
    if all(32 <= b < 127 or b in b"\t\r\n" for b in head):
        return " but a text file" + (": parse it with onnx.parser and save it first" if b"ir_version" in head else "")
    return ""


def _check_versions(model: onnx.ModelProto, path: Path) -> None:
    remedy = f"the installed onnx {onnx.__version__} knows up to {{}}: upgrade onnx (pip install -U onnx)"
    if model.ir_version > onnx.IR_VERSION:
        raise InputError(f"{path} has IR version {model.ir_version}, but {remedy.format(onnx.IR_VERSION)}")
    for opset in model.opset_import:
        latest = MODEL_DOMAINS.get(opset.domain)
        if latest is not None and opset.version > latest():
            name = f"{opset.domain or 'ai.onnx'} opset {opset.version}"
            raise InputError(f"{path} uses {name}, but {remedy.format(latest())}")


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a model: initializers and attributes, also in subgraphs, local functions and training
    graphs."""
    graphs = [model.graph, *(graph for t in model.training_info for graph in (t.algorithm, t.initialization))]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                if attribute.HasField("sparse_tensor"):
                    yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                yield from attribute.tensors
                graphs.extend(attribute.graphs)
        nodes = []


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The tensors of ``model`` whose data is in another file."""
    return [t for t in all_tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]


def bring_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Load the external data of ``tensor`` from its file under ``folder`` into the tensor.

    Raises
    ------
    InputError: the data is missing, truncated, or outside ``folder``.
    """
    try:
        load_external_data_for_tensor(tensor, os.fspath(folder))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise InputError(f"the external data of tensor {tensor.name!r} cannot be read: {error}") from error


def _check_external(tensor: onnx.TensorProto, folder: Path, path: Path) -> None:
    """Refuse external data that are not inside ``folder``, not all there, or not what the tensor's shape asks for."""
    entries = external_entries(tensor)
    location = entries.get("location", "")
    what = f"{path}: the external data of tensor {tensor.name!r}"
    if not location:
        raise InputError(f"{what} names no file: export the model again")
    file = folder / location
    absolute = Path(location).is_absolute() or PureWindowsPath(location).is_absolute()
    if absolute or not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{what} points outside the model's folder ({location}): copy the data beside the model")
    try:
        check_tensor(tensor, f"tensor {tensor.name!r}")
    except ValueError as error:
        raise InputError(f"{path} is not a valid model: {error}") from error
    try:
        offset = int(entries.get("offset", 0))
        needed = tensor_bytes(tensor)
        length = int(entries.get("length", needed))
        available = file.stat().st_size - offset
    except FileNotFoundError:
        raise InputError(f"{what} is missing: put {location} beside the model") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{what} cannot be read: {error}") from error
    if not file.is_file() or offset < 0 or length != needed or length > available:
        raise InputError(f"{what} is cut short or of the wrong size: export or download {location} again")
