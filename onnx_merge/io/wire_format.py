"""Reads and writes the serialised form of large models field by field, so that their weights are never copied whole.

A message is a list of fields, each a tag (field number and wire type) and a value (Protocol Buffers, Encoding). Numbers
of fields are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from passes.weights.stored_tensors import array_of, can_be_stored, is_stored

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""In ModelProto, GraphProto and TensorProto."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. The others are of groups, which ONNX does not have."""
Written = Callable[[Any], object]
"""Takes the bytes of a model, part by part."""


def without_large_weights(data: memoryview) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """A serialised model without the values of its large initializers.

    Returns
    -------
    The model's bytes, and (start, length) in ``data`` of the values that were left out, by the initializer's index.

    Raises
    ------
    ValueError, IndexError: the bytes are no message. `google.protobuf` says what is wrong with them.
    """
    model, left_out = bytearray(), dict[int, tuple[int, int]]()
    index = 0
    for number, start, value, end in _fields(data, 0, len(data)):
        if number != GRAPH:
            model += data[start:end]
            continue
        graph = bytearray()
        for inner, first, content, last in _fields(data, value, end):
            if inner != INITIALIZER:
                graph += data[first:last]
                continue
            tensor, values = _without_values(data, content, last)
            if values is not None:
                left_out[index] = values
            index += 1
            graph += _tag(INITIALIZER) + _varint(len(tensor)) + tensor
        model += _tag(GRAPH) + _varint(len(graph)) + graph
    return bytes(model), left_out


def write_model(model: onnx.ModelProto, write: Written) -> None:
    """Serialise ``model``, with the values of its stored tensors in it, and hand the bytes to ``write`` in parts."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    tensors = [_head(tensor) for tensor in bare.graph.initializer]
    stored = [tensor if is_stored(tensor) else None for tensor in model.graph.initializer]
    del bare.graph.initializer[:]
    graph = bare.graph.SerializeToString()
    bare.ClearField("graph")
    values = [0 if tensor is None else array_of(tensor).nbytes for tensor in stored]
    heads = [
        head + (_tag(RAW_DATA) + _varint(size) if size else b"") for head, size in zip(tensors, values, strict=True)
    ]
    sizes = [len(head) + size for head, size in zip(heads, values, strict=True)]
    whole = len(graph) + sum(len(_tag(INITIALIZER) + _varint(size)) + size for size in sizes)
    write(bare.SerializeToString() + _tag(GRAPH) + _varint(whole) + graph)
    for head, tensor, size in zip(heads, stored, sizes, strict=True):
        write(_tag(INITIALIZER) + _varint(size) + head)
        if tensor is not None:
            write(content_of(tensor))


def content_of(tensor: onnx.TensorProto) -> memoryview:
    """The bytes of a stored tensor, which are little-endian and not copied."""
    values = array_of(tensor)
    return values.reshape(-1).view(np.uint8).data


def _head(tensor: onnx.TensorProto) -> bytes:
    """A tensor's bytes; of a stored one without its values."""
    if is_stored(tensor):
        for field in ("data_location", "external_data"):
            tensor.ClearField(field)
    return bytes(tensor.SerializeToString())


def _without_values(data: memoryview, start: int, end: int) -> tuple[bytes, tuple[int, int] | None]:
    """A serialised tensor and None; of a large one without its values, and their place."""
    kept, values = bytearray(), None
    for number, first, content, last in _fields(data, start, end):
        if number == RAW_DATA and values is None:
            values = content, last - content
        else:
            kept += data[first:last]
    if values is None or not can_be_stored(onnx.TensorProto.FromString(bytes(kept))):
        return bytes(data[start:end]), None
    return bytes(kept), values


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, start of the tag, start of the value, end) of each field. The value of bytes begins after its length."""
    while at < end:
        start = at
        tag, at = _read_varint(data, at)
        value, kind = at, tag & 7
        if kind == VARINT:
            _, at = _read_varint(data, at)
        elif kind == BYTES:
            size, value = _read_varint(data, at)
            at = value + size
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("a field is cut short")
        yield tag >> 3, start, value, at


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def _tag(number: int) -> bytes:
    return _varint(number << 3 | BYTES)
