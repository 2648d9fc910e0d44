"""Describes the inputs and outputs that a session declares, in NumPy types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


DTYPES = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "bfloat16": BFLOAT16,
    "string": np.dtype(object),
    **{n: np.dtype(n) for n in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{n: np.dtype(n) for n in ("uint8", "uint16", "uint32", "uint64")},
}
"""onnxruntime's name of an element type -> NumPy type."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model, as declared."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    """A dynamic dimension is its symbol, or None if it has none."""


def tensor_info(declared: Any) -> TensorInfo | None:
    """The tensor; None for sequences, maps, optionals and element types that NumPy cannot represent."""
    element = re.fullmatch(r"tensor\((\w+)\)", declared.type)
    known = element is not None and element[1] in DTYPES
    return TensorInfo(declared.name, DTYPES[element[1]], tuple(declared.shape)) if element and known else None


def maps_info(declared: Any) -> TensorInfo | None:
    """A sequence of maps from labels to floats as a tensor (samples, labels); None for anything else."""
    maps = re.fullmatch(r"seq\(map\((int64|string),tensor\(float\)\)\)", declared.type)
    return TensorInfo(declared.name, DTYPES["float"], (None, None)) if maps else None


def rows_of_maps(maps: list[dict[Any, float]]) -> Array:
    """One row (samples, labels) for each map, its values in the order of their labels."""
    values = [[row[key] for key in sorted(row)] for row in maps]
    return np.array(values, np.float32).reshape(len(values), len(values[0]) if values else 0)


def is_open(size: int | str | None) -> bool:
    """Whether a declared size is dynamic; some files declare such sizes as -1. 0 is a size."""
    return not isinstance(size, int) or size < 0
