"""Fixes sizes and inputs of the model to what the user gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_merge.config.run_options import RunOptions
from onnx_merge.errors import UsageError
from onnx_merge.inputs.feeds import describe
from onnx_merge.inputs.fixed_shapes import with_fixed_shapes
from onnx_merge.inputs.user_arrays import read_arrays
from onnx_merge.io.model_source import Source
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Array
from passes.transforms.fix_inputs import fix_inputs

KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}
"""The kinds of element types, by generality: a value of one kind can be converted to every later kind."""


def with_fixed(source: Source, options: RunOptions) -> Source:
    """``source`` with the sizes and the inputs that the options fix.

    Raises
    ------
    UsageError: as `with_fixed_shapes` and `with_fixed_inputs`.
    """
    return with_fixed_inputs(with_fixed_shapes(source, options.fix_shape), options.fix_input)


def with_fixed_inputs(source: Source, given: Sequence[tuple[str, object]]) -> Source:
    """``source`` with inputs of its model fixed to the values ``given``: numbers, lists, strings or paths of .npy
    files.

    Raises
    ------
    UsageError: the model has no such input, or a value does not fit it.
    InputError: a file cannot be read.
    """
    if not given:
        return source
    inputs = {v.name: v for v in source.model.graph.input}
    values: dict[str, Array] = {}
    for name, value in given:
        if name not in inputs:
            raise UsageError(f"fix-input: the model has no input {name!r}: it has {', '.join(sorted(inputs))}")
        values[name] = as_declared(inputs[name], value)
    return replace(source, model=fix_inputs(source.model, values, FOLDING))


def as_declared(declared: onnx.ValueInfoProto, value: object) -> Array:
    """``value`` in the type and shape that the input declares. Dynamic dimensions take their sizes from ``value``.

    Raises
    ------
    UsageError: the value does not fit.
    """
    name, kind = declared.name, declared.type.tensor_type
    if not declared.type.HasField("tensor_type") or not kind.elem_type:
        raise UsageError(f"fix-input: {name!r} is no tensor, and cannot be fixed")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    shape: tuple[int | str | None, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    if isinstance(value, np.ndarray) or _is_file(value):
        array = value if isinstance(value, np.ndarray) else _read(Path(str(value)))
        if shape is not None and not _fits(array.shape, shape):
            raise UsageError(f"fix-input: {name!r} has shape {describe(shape)}, not {array.shape}")
        return _typed(name, array, dtype)
    items = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [value]
    array = np.array([_item(name, item, dtype) for item in items], dtype)
    target = _shape_for(len(items), shape)
    if target is None:
        raise UsageError(
            f"fix-input: {name!r} has shape {describe(shape or ())}, which {len(items)} values do not fill"
        )
    return array.reshape(target)


def _is_file(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value.lower().endswith(".npy"))


def _read(path: Path) -> Array:
    if path.suffix.lower() != ".npy":
        raise UsageError(f"fix-input takes numbers or an .npy file, not {str(path)!r}")
    return np.array(read_arrays(path)[""])


def _fits(given: tuple[int, ...], shape: tuple[int | str | None, ...]) -> bool:
    return len(given) == len(shape) and all(not isinstance(d, int) or d == n for n, d in zip(given, shape, strict=True))


def _typed(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    given, wanted = KINDS.get(array.dtype.kind, 3), KINDS.get(dtype.kind, 2 if dtype.kind == "V" else 3)
    if array.dtype != dtype and (given > wanted or wanted == 3 or (given == 0 and wanted == 1)):
        raise UsageError(f"fix-input: {name!r} takes {dtype}, not {array.dtype}")
    result = array.astype(dtype)
    if wanted == 1 and not np.array_equal(result, array):
        raise UsageError(f"fix-input: {name!r} takes {dtype}, which the values given do not fit into")
    return result


def _item(name: str, item: object, dtype: np.dtype[Any]) -> object:
    """One number, boolean or string in the type of the input."""
    word = str(item).strip()
    flags: Mapping[str, bool] = {"true": True, "false": False}
    found: object | None = None
    try:
        if dtype.kind == "b":
            found = flags.get(word.lower(), {"1": True, "0": False}.get(word))
        elif dtype.kind in "iu":
            number = int(word)
            found = number if np.iinfo(dtype).min <= number <= np.iinfo(dtype).max else None
        elif dtype.kind in "OU":
            found = word
        else:
            found = float(word)
    except ValueError:
        pass
    if found is None:
        raise UsageError(f"fix-input: {name!r} takes {dtype}, which {word!r} is not")
    return found


def _shape_for(count: int, shape: tuple[int | str | None, ...] | None) -> tuple[int, ...] | None:
    """A shape with ``count`` elements. If there are several dynamic dimensions, all but the last are 1."""
    if shape is None:
        return () if count == 1 else (count,)
    fixed = math.prod(d for d in shape if isinstance(d, int))
    dynamic = [axis for axis, d in enumerate(shape) if not isinstance(d, int)]
    sizes = [d if isinstance(d, int) else 1 for d in shape]
    if dynamic and fixed and count % fixed == 0:
        sizes[dynamic[-1]] = count // fixed
    return tuple(sizes) if math.prod(sizes) == count else None
