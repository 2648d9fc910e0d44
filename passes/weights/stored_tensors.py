"""Tensors whose values stay in files: the weights of large models.

A tensor with external data at an absolute path is *stored*. Its values are read from the mapped file where they are
used. Model files name external data by relative paths (ONNX, External Data), so that a stored tensor is one of ours.
New weights are stored too while `storing_weights` is in effect, each as it is made.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from passes.interface.engine import Array
from passes.weights.mapped_files import FilePlace, MappedFiles
from passes.weights.tuning import STORED_WEIGHTS, StoredWeightsTuning

MAPPED = MappedFiles(STORED_WEIGHTS.resident_bytes)
"""The mapped files of this process. A mapping is part of its address space, as this is."""


_STORED_TYPES = frozenset(
    map(onnx.TensorProto.DataType.Value, ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT8"))
)
"""Types of weights whose elements take whole bytes."""


class _Writer:
    """Writes arrays to files in ``folder``, one for each."""

    def __init__(self, folder: str, room: float, tuning: StoredWeightsTuning) -> None:
        self._folder, self._room, self._numbers = folder, room, count()
        self.written: list[str] = []
        """Paths of all files so far."""
        self.tuning, self.active = tuning, False

    def write(self, array: Array) -> Array:
        """A copy of ``array`` in a mapped file; ``array`` itself where there is no room for it."""
        if array.nbytes > self._room:
            return array
        path = os.path.join(self._folder, f"{next(self._numbers)}.bin")
        data = np.ascontiguousarray(array)
        try:
            with open(path, "wb") as file:
                file.write(data.reshape(-1).view(np.uint8).data)
        except OSError:  # the disk is full: memory has to do
            Path(path).unlink(missing_ok=True)
            self._room = 0
            return array
        self._room -= data.nbytes
        self.written.append(path)
        return MAPPED.temporary(path, data.dtype, data.shape, partial(self._regain, data.nbytes))

    def discard(self, first: int) -> None:
        """Remove the files that tensors refer to, from the ``first`` one written on."""
        for path in self.written[first:]:
            self._regain(MAPPED.discard(path))

    def _regain(self, size: int) -> None:
        self._room += size


_writer: ContextVar[_Writer | None] = ContextVar("writer", default=None)


@contextmanager
def storing_weights(
    folder: str | os.PathLike[str] | None, room: float, tuning: StoredWeightsTuning = STORED_WEIGHTS
) -> Iterator[None]:
    """In the block, weights of large models are kept in temporary files under ``folder``, up to ``room`` bytes of them.

    It takes effect with the first large model: see `start_storing`. Stored tensors are lost with the block: see
    `in_memory`. Without a ``folder``, and inside another such block, nothing changes.
    """
    if folder is None or _writer.get() is not None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="onnx_merge-weights-", dir=folder, ignore_cleanup_errors=True) as made:
        own = os.path.realpath(made)
        token = _writer.set(_Writer(own, room, tuning))
        try:
            yield
        finally:
            _writer.reset(token)
            for name in os.listdir(own):
                MAPPED.close(os.path.join(own, name))
            MAPPED.close_lasting()


@contextmanager
def discarding_weights() -> Iterator[None]:
    """Tensors that are stored in the block, of models that serve in it alone, lose their files at its end. Arrays stay
    valid."""
    writer = _writer.get()
    first = 0 if writer is None else len(writer.written)
    try:
        yield
    finally:
        if writer is not None:
            writer.discard(first)


def may_be_stored(size: int) -> bool:
    """Whether a model with ``size`` bytes of weights is large, and this is in a block of `storing_weights`."""
    writer = _writer.get()
    return writer is not None and size >= writer.tuning.model_bytes


def storing() -> bool:
    """Whether new weights are stored."""
    writer = _writer.get()
    return writer is not None and writer.active


def start_storing(size: int) -> bool:
    """Store weights from now on, if a model with ``size`` bytes of weights is large. Returns whether it is."""
    writer = _writer.get()
    if writer is None or size < writer.tuning.model_bytes:
        return False
    writer.active = True
    return True


def stored_array(array: Array, copied: bool = False) -> Array:
    """``array`` in a mapped file, where weights are stored and it is large; else ``array`` itself. What lies in a
    mapped file already is not ``copied`` unless that is asked for."""
    writer = _writer.get()
    if writer is None or not writer.active or array.nbytes < writer.tuning.tensor_bytes or array.dtype.hasobject:
        return array
    return writer.write(array) if copied or MAPPED.place_of(array) is None else array


def is_stored(tensor: onnx.TensorProto) -> bool:
    """Whether the values of ``tensor`` are in a file that is mapped."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and os.path.isabs(
        external_entries(tensor).get("location", "")
    )


def place_of(tensor: onnx.TensorProto) -> FilePlace:
    """Where the values of a stored tensor are."""
    entries = external_entries(tensor)
    return FilePlace(entries["location"], int(entries["offset"]), int(entries["length"]))


def store_at(tensor: onnx.TensorProto, place: FilePlace) -> None:
    """Make ``tensor`` a stored one, with its values at ``place``."""
    for field in ("raw_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place.path), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))


def array_of(tensor: onnx.TensorProto) -> Array:
    """The values of ``tensor``; of a stored one not copied, and not to be written to.

    Raises
    ------
    OSError, ValueError: the file of a stored tensor is gone, or too short.
    """
    if not is_stored(tensor):
        return numpy_helper.to_array(tensor)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return MAPPED.array(place_of(tensor), dtype, tuple(tensor.dims))


def same_values(one: onnx.TensorProto, other: onnx.TensorProto) -> bool:
    """Whether both tensors have the same type, shape and values, to the bit."""
    if (one.data_type, *one.dims) != (other.data_type, *other.dims):
        return False
    return bool(array_of(one).tobytes() == array_of(other).tobytes())


def tensor_of(array: Array, name: str) -> onnx.TensorProto:
    """A tensor with the values of ``array``. It is stored, and nothing copied, if they lie in a mapped file."""
    place = MAPPED.place_of(array)
    if place is None:
        return numpy_helper.from_array(array, name)
    MAPPED.keep(place.path)  # the tensor names the file
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=kind)
    store_at(tensor, place)
    return tensor


def bring_into_memory(tensor: onnx.TensorProto) -> None:
    """Put the values of a stored tensor into it. Other tensors stay as they are."""
    if is_stored(tensor):
        values = numpy_helper.from_array(array_of(tensor), tensor.name)
        for field in ("data_location", "external_data"):
            tensor.ClearField(field)
        tensor.raw_data = values.raw_data


def in_memory(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with the values of its stored tensors in it; the same object if it has none."""
    if not any(is_stored(tensor) for tensor in model.graph.initializer):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        bring_into_memory(tensor)
    return result


def without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with inputs in place of its stored tensors, for checks that would look for their files; the same object
    if it has none."""
    stored = {tensor.name for tensor in model.graph.initializer if is_stored(tensor)}
    if not stored:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    given = {value.name for value in model.graph.input}
    del result.graph.initializer[:]
    for tensor in model.graph.initializer:
        if tensor.name not in stored:
            result.graph.initializer.append(tensor)
        elif tensor.name not in given:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            result.graph.input.append(value)
    return result


def can_be_stored(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is large, and of a type whose elements take whole bytes. Integers that name sizes are not. False
    outside of `storing_weights`."""
    writer = _writer.get()
    if writer is None or tensor.data_type not in _STORED_TYPES:
        return False
    itemsize = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return int(math.prod(tensor.dims)) * itemsize >= writer.tuning.tensor_bytes


def external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The fields of a tensor's external data: location, offset, length."""
    return {entry.key: entry.value for entry in tensor.external_data}
