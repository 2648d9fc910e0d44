"""Faults of a model's contents that `onnx.checker` passes over, each named by its tensor or node."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from passes.shapes.constants import STANDARD_DOMAINS

Message = importlib.import_module("google.protobuf.message").Message
"""Base class of protobuf messages, imported by name: the package has no type stubs."""
KINDS = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
"""Element types that the installed onnx knows."""
COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Fields in which a tensor has its values one by one; texts have ``string_data``."""
DEPTH = 25
"""Graphs inside each other: protobuf reads messages up to 100 deep, of which each graph takes 3, and its shapes 5."""
TEXT_DOMAINS = (*STANDARD_DOMAINS, "ai.onnx.ml")
"""Domains whose string attributes are text; those of vendors may be anything."""


def check_text(model: onnx.ModelProto) -> None:
    """Refuse names and other texts that are no UTF-8, which protobuf hands on as bytes, and graphs nested too deep.

    Raises
    ------
    ValueError: one line that says where.
    """
    for message, place in _messages(model):
        for field, value in _fields(message):
            texts = _listed(value) if field.type == field.TYPE_STRING else ()
            if any(isinstance(text, bytes) for text in texts):
                raise ValueError(f"{place} has a {field.name} that is no UTF-8 text: the file is damaged")
        if isinstance(message, onnx.NodeProto) and message.domain in TEXT_DOMAINS:
            _check_attribute_texts(message, place)


def check_tensors(model: onnx.ModelProto) -> None:
    """Refuse a model with a tensor whose type is unknown, or whose values do not fit its shape.

    Raises
    ------
    ValueError: one line that names the tensor, or the node that holds it.
    """
    for message, place in _messages(model):
        if isinstance(message, onnx.TensorProto):
            check_tensor(message, place if message.name else f"the tensor of {place}")


def _messages(model: onnx.ModelProto) -> Iterator[tuple[Any, str]]:
    """Every message of a model, and what a line calls it or the one it is in."""
    waiting: list[tuple[Any, str, int]] = [(model, "the model", 0)]
    while waiting:
        message, place, depth = waiting.pop()
        if isinstance(message, onnx.GraphProto):
            depth += 1
        if depth > DEPTH + 1:
            raise ValueError(f"{place} is in graphs nested more than {DEPTH} deep")
        place = _named(message) or place
        yield message, place
        for field, value in _fields(message):
            if field.type == field.TYPE_MESSAGE:
                waiting.extend((part, place, depth) for part in _listed(value))


def _listed(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, (str, bytes, Message)) else value


def _check_attribute_texts(node: onnx.NodeProto, place: str) -> None:
    for attribute in node.attribute:
        for text in (attribute.s, *attribute.strings):
            try:
                text.decode()
            except UnicodeDecodeError:
                raise ValueError(f"attribute {attribute.name!r} of {place} is no UTF-8 text") from None


def _fields(message: Any) -> Iterator[tuple[Any, Any]]:
    """The fields of a message that are set; of a tensor not its values, which are large."""
    if not isinstance(message, onnx.TensorProto):
        yield from message.ListFields()
        return
    for field in message.DESCRIPTOR.fields:
        if field.type in (field.TYPE_STRING, field.TYPE_MESSAGE) and field.name != "segment":
            yield field, getattr(message, field.name)


def _named(message: Any) -> str | None:
    """What a line calls a message that has a name."""
    if isinstance(message, onnx.TensorProto):
        return f"tensor {_shown(message.name)}" if message.name else None
    if isinstance(message, onnx.NodeProto):
        label = message.name or next((name for name in message.output if name), "")
        return f"node {_shown(label)} ({_shown(message.op_type).strip(chr(39))})"
    if isinstance(message, onnx.ValueInfoProto):
        return f"value {_shown(message.name)}"
    if isinstance(message, onnx.FunctionProto):
        return f"function {_shown(message.name)}"
    return None


def _shown(text: str | bytes) -> str:
    return repr(text.decode(errors="backslashreplace") if isinstance(text, bytes) else text)


def check_tensor(tensor: onnx.TensorProto, what: str) -> None:
    """Refuse a tensor as `check_tensors` does; ``what``: its name in the line.

    Raises
    ------
    ValueError: one line.
    """
    if tensor.data_type not in KINDS:
        raise ValueError(f"{what} has the element type {tensor.data_type}, which the installed onnx does not know")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"{what} has the shape {list(tensor.dims)}, of which a size is negative")
    if tensor.HasField("segment"):
        raise ValueError(f"{what} is stored in segments, which runtimes do not read")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    if tensor.data_type == onnx.TensorProto.STRING:
        found, needed, unit = len(tensor.string_data), int(math.prod(tensor.dims)), "values"
    elif tensor.HasField("raw_data"):
        found, needed, unit = len(tensor.raw_data), tensor_bytes(tensor), "bytes"
    else:
        found, unit = sum(len(getattr(tensor, field)) for field in FIELDS), "values"
        values = int(math.prod(tensor.dims)) * (2 if tensor.data_type in COMPLEX else 1)
        needed = tensor_bytes(tensor) if packed_bits(tensor.data_type) else values
    if found != needed:
        raise ValueError(f"{what} has {found} {unit}, and its shape {list(tensor.dims)} asks for {needed}")


def check_types(model: onnx.ModelProto) -> None:
    """Refuse declared element types that are unknown, and operator sets imported at two versions.

    Raises
    ------
    ValueError: one line that names the value or the operator set.
    """
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for kind in (value.type.tensor_type, value.type.sparse_tensor_type):
            if kind.elem_type not in KINDS and kind.elem_type != onnx.TensorProto.UNDEFINED:
                known = f"the element type {kind.elem_type}, which the installed onnx does not know"
                raise ValueError(f"value {value.name!r} has {known}")
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = opset.domain or "ai.onnx"
        if versions.setdefault(domain, opset.version) != opset.version:
            raise ValueError(f"the model imports the operators {domain!r} at two versions")


def packed_bits(data_type: int) -> int | None:
    """Bits of an element where several share a byte; none for other types."""
    packed = re.search(r"(?:INT|FLOAT)([24])(?:E\w+)?$", onnx.TensorProto.DataType.Name(data_type))
    return int(packed[1]) if packed else None


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the values of a tensor take, from its shape and type; types of 4 and 2 bits are packed."""
    bits = packed_bits(tensor.data_type)
    if bits is None:
        bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return (int(math.prod(tensor.dims)) * bits + 7) // 8
