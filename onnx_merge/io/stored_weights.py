"""Reads large models without their weights, which stay in files: external data where it is, or temporary ones."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import onnx

from onnx_merge.io.contents import tensor_bytes
from onnx_merge.io.wire_format import without_large_weights
from passes.weights.mapped_files import FilePlace
from passes.weights.stored_tensors import (
    array_of,
    can_be_stored,
    is_stored,
    may_be_stored,
    place_of,
    store_at,
    stored_array,
    tensor_of,
)

LeftOut = Mapping[int, tuple[int, int]]
"""Initializers, by index, whose values were not read -> (start, length) of the values in the model's file."""
ALIGNMENT = 64
"""Bytes. Kernels read a whole line of the cache at a time; packages of models align weights to this or to pages."""


def read_model(path: Path) -> tuple[bytes, LeftOut]:
    """The bytes of the model at ``path``. The values of large weights are left out where weights are stored and the
    file is large.

    Raises
    ------
    OSError: the file cannot be read.
    """
    if not may_be_stored(path.stat().st_size):
        return path.read_bytes(), {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        view = memoryview(pages)
        try:
            return without_large_weights(view)
        except (ValueError, IndexError):  # the parser says what is wrong
            return pages[:], {}
        finally:
            view.release()


def point_to(model: onnx.ModelProto, left_out: LeftOut, path: Path) -> None:
    """Make tensors of ``model`` whose values were not read stored ones, in the file at ``path``.

    Raises
    ------
    ValueError: the values do not fit a tensor's shape; the line names the tensor.
    """
    for index, (start, length) in left_out.items():
        tensor = model.graph.initializer[index]
        if tensor.data_location == onnx.TensorProto.EXTERNAL or length != tensor_bytes(tensor):
            needed = f"its shape {list(tensor.dims)} asks for {tensor_bytes(tensor)}"
            raise ValueError(f"tensor {tensor.name!r} has {length} bytes, and {needed}")
        store_at(tensor, FilePlace(os.path.realpath(path), start, length))


def keep_in_files(model: onnx.ModelProto, folder: Path) -> None:
    """Make the large initializers of ``model`` that are external data in ``folder`` stored tensors.

    What is not aligned in its file is copied to a temporary one.
    """
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL or not can_be_stored(tensor):
            continue
        if not is_stored(tensor):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            file = os.path.realpath(folder / entries["location"])
            store_at(tensor, FilePlace(file, int(entries.get("offset", 0)), tensor_bytes(tensor)))
        if place_of(tensor).offset % ALIGNMENT:
            copy = tensor_of(stored_array(array_of(tensor), copied=True), tensor.name)
            store_at(tensor, place_of(copy))
