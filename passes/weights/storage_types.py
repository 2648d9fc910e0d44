"""Marks float32 weights that are stored in a narrower type and cast when the model runs, and rounds them to that type.

The mark is a line of the doc string, which survives as long as the tensor does, with other values in it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
NARROW_FLOATS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
WIDE_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
MARK = "\x00stored as "
"""Begins the line of a doc string that holds the type by number and the name of the stored tensor."""


@dataclass(frozen=True)
class StorageType:
    """``kind``: element type in which a tensor is stored. ``name``: of the stored tensor."""

    kind: int
    name: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._dtype.itemsize

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.kind))

    def narrow(self, array: Array) -> Array | None:
        """``array`` in the storage type; None if that would change a value."""
        with np.errstate(over="ignore"):
            stored = array.astype(self._dtype)
        return stored if np.array_equal(stored.astype(array.dtype), array, equal_nan=True) else None

    def rounded(self, array: Array) -> Array:
        """``array`` rounded to values of the storage type. It is returned as it is where they lose more than rounding:
        its values are too large, or too close to zero."""
        with np.errstate(over="ignore", invalid="ignore"):
            stored = array.astype(self._dtype).astype(array.dtype)
            off = np.linalg.norm(stored.ravel() - array.ravel())
        unit = 2.0**-8 if self.kind == onnx.TensorProto.BFLOAT16 else 2.0**-11
        return stored if off <= unit * np.linalg.norm(array.ravel()) else array


def mark_storage(tensor: onnx.TensorProto, storage: StorageType) -> None:
    """Note in ``tensor`` in which type it is stored."""
    tensor.doc_string = f"{MARK}{storage.kind} {storage.name}\n{tensor.doc_string}"


def storage_of(tensor: onnx.TensorProto) -> StorageType | None:
    """The type in which ``tensor`` is stored; None if that is its own."""
    _, found, rest = tensor.doc_string.partition(MARK)
    kind, _, name = rest.partition("\n")[0].partition(" ")
    return StorageType(int(kind), name) if found else None


def clear_storage(tensor: onnx.TensorProto) -> None:
    """Remove the mark of ``tensor``."""
    before, found, rest = tensor.doc_string.partition(MARK)
    if found:
        kept = before + rest.partition("\n")[2]
        tensor.ClearField("doc_string")
        if kept:  # setting an empty doc string would add two bytes
            tensor.doc_string = kept
