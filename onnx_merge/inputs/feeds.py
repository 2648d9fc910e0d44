"""Create random feeds for a model, and concrete shapes for its inputs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.dimensions import symbol
from onnx_merge.inputs.integer_inputs import index_bounds as index_bounds
from onnx_merge.runtime.tensor_info import BFLOAT16, TensorInfo, is_open

Array = NDArray[Any]
Sizes = Mapping[str, int | Sequence[int]]
"""Sizes that the user fixed, by name: the size of a symbol, or the whole shape of an input."""
STRINGS_REMEDY = "give samples with --calib"
"""What helps if an input takes strings, and there are no samples."""
LENGTH = re.compile(r"(?<![a-z])len(gth)?s?(?![a-z])", re.IGNORECASE)
"""Matches a part of the names of inputs that hold lengths."""

IMAGE_SIZE, VOLUME_SIZE, SEQUENCE_SIZE, IMAGE_CHANNELS = 224, 32, 16, 3
"""Default sizes of dynamic dimensions: edges of images (rank 4), edges of volumes (higher rank), any other dimension,
and the channels of an image."""


def random_feeds(
    inputs: Sequence[TensorInfo],
    batch: int | None = None,
    seed: int = 0,
    sizes: Sizes | None = None,
    upper: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """One random batch for every input: standard normal floats, integers in 0..1 (or below ``upper[name]``), masks of
    ones.

    The values of an input depend on the seed, its name and its shape, not on the other inputs. ``batch`` is the size of
    dynamic first axes; by default 1, or what ``sizes`` says. See `index_bounds` for ``upper``.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names a symbol or input that it does not have.
    InputError: an input takes strings.
    """
    bounds = upper or {}
    shapes = resolve_shapes(inputs, batch, sizes or {})
    return {i.name: _random(i, shapes[i.name], seed, bounds.get(i.name)) for i in inputs}


def feeds_at(
    inputs: Sequence[TensorInfo],
    shapes: Mapping[str, Sequence[int]],
    seed: int = 0,
    upper: Mapping[str, int] | None = None,
    scale: float = 1.0,
) -> dict[str, Array]:
    """One batch at concrete shapes, with values as in `random_feeds`; floats are multiplied by ``scale``.

    Raises
    ------
    InputError: an input takes strings.
    """
    feeds = {i.name: _random(i, tuple(shapes[i.name]), seed, (upper or {}).get(i.name)) for i in inputs}
    if scale == 1:
        return feeds
    floats = {i.name for i in inputs if type_rank(i.dtype) == 2}
    return {n: (a * scale).astype(a.dtype) if n in floats else a for n, a in feeds.items()}


def declared_inputs(model: onnx.ModelProto) -> list[TensorInfo]:
    """The inputs that a caller must feed, as declared in the model."""
    constants = {t.name for t in model.graph.initializer}  # also inputs with a default value, which need not be fed
    return [
        TensorInfo(
            value.name,
            np.dtype(np.float32),  # only shapes are used
            tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or None
                for d in value.type.tensor_type.shape.dim
            ),
        )
        for value in model.graph.input
        if value.name not in constants
    ]


def resolve_shapes(inputs: Sequence[TensorInfo], batch: int | None, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """A concrete shape for every input. Dimensions with the same symbol get the same size. For the arguments see
    `random_feeds`."""
    known = {i.name for i in inputs} | {d for i in inputs for d in i.shape if isinstance(d, str)}
    for name, size in sizes.items():
        if name not in known:
            raise UsageError(f"a size was given for {name!r}, but the model knows only: {', '.join(sorted(known))}")
        if isinstance(size, Sequence):
            _check_is_input(name, size, inputs)
        declared = next((i.shape for i in inputs if i.name == name), ())
        chosen = [size] if isinstance(size, int) else [n for n, d in zip_longest(size, declared) if n != 0 or d != 0]
        if min((n for n in chosen if n is not None), default=1) < 1:
            raise UsageError(f"the size given for {name!r} is {size}: sizes are positive")
    by_symbol = {name: size for name, size in sizes.items() if isinstance(size, int)}
    for info in inputs:  # a whole shape also fixes its symbols in the other inputs
        given = sizes.get(info.name)
        if not isinstance(given, Sequence):
            continue
        matches = len(given) == len(info.shape)
        if not matches or any(not is_open(d) and d != g for d, g in zip(info.shape, given, strict=True)):
            raise UsageError(f"input {info.name!r} has shape {describe(info.shape)}, which {tuple(given)} does not fit")
        by_symbol.update({s: g for d, g in zip(info.shape, given, strict=True) if (s := symbol(d))})
    if batch is not None:
        by_symbol.update({s: batch for i in inputs if i.shape and (s := symbol(i.shape[0]))})
    return {i.name: _resolve(i, batch, by_symbol, sizes.get(i.name)) for i in inputs}


def _check_is_input(name: str, size: Sequence[int], inputs: Sequence[TensorInfo]) -> None:
    """Refuse a whole shape for the name of a dimension, and say how its size is given."""
    if any(i.name == name for i in inputs):
        return
    holder = next(i for i in inputs if name in i.shape)
    by_symbol = {name: size[0]}
    shape = ",".join(map(str, _resolve(holder, None, by_symbol, None)))
    raise UsageError(
        f"{name!r} is a dimension of input {holder.name!r} {describe(holder.shape)}, not an input: give the input's "
        f"whole shape, for instance {holder.name}:{shape}"
    )


def _resolve(
    info: TensorInfo, batch: int | None, by_symbol: dict[str, int], given: int | Sequence[int] | None
) -> tuple[int, ...]:
    shape: list[int] = []
    channels_last = len(info.shape) > 3 and isinstance(info.shape[-1], int) and 0 < info.shape[-1] <= 4
    for axis, dim in enumerate(info.shape):
        if axis == 0:
            default = batch or 1
        elif len(info.shape) < 4:
            default = SEQUENCE_SIZE
        elif axis == 1 and not channels_last:
            default = IMAGE_CHANNELS
        else:
            default = IMAGE_SIZE if len(info.shape) == 4 else VOLUME_SIZE
        if name := symbol(dim):
            shape.append(by_symbol.setdefault(name, default))
        elif not is_open(dim):
            shape.append(int(dim or 0))
        else:
            chosen = isinstance(given, Sequence) and not (axis == 0 and batch is not None)
            shape.append(given[axis] if chosen and isinstance(given, Sequence) else default)
    return tuple(shape)


def refuse_strings(inputs: Sequence[TensorInfo]) -> None:
    """Refuse inputs that take strings.

    Raises
    ------
    InputError: one does.
    """
    for info in inputs:
        if info.dtype == object:
            raise InputError(f"input {info.name!r} takes strings, which cannot be made up: {STRINGS_REMEDY}")


def _random(info: TensorInfo, shape: tuple[int, ...], seed: int, upper: int | None) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(info.name.encode())])
    refuse_strings([info])
    if info.dtype == bool or np.issubdtype(info.dtype, np.integer):
        if is_mask(info, upper):
            return np.ones(shape, info.dtype)
        return rng.integers(*value_range(info, len(shape), upper), shape).astype(info.dtype)
    return rng.standard_normal(shape, np.float64 if info.dtype == np.float64 else np.float32).astype(info.dtype)


def is_mask(info: TensorInfo, upper: int | None) -> bool:
    """Whether an input of integers, whose bound is ``upper`` where it has one, is a mask. It is fed ones: if every
    position is masked, attention gives NaN. Masks in which ones leave positions out have the bound 1, and get zeros."""
    return upper is None and "mask" in info.name.lower()


def value_range(info: TensorInfo, rank: int, upper: int | None) -> tuple[int, int]:
    """The integers that an input takes, [low, high): below ``upper``, the levels of a pixel, or else 0 and 1, as far as
    its type holds them. Lengths are 1 at least: of a sequence without a step, attention gives NaN."""
    pixels = info.dtype == np.uint8 and rank > 2
    high = min(upper or (256 if pixels else 2), 2 if info.dtype == bool else int(np.iinfo(info.dtype).max) + 1)
    return int(bool(LENGTH.search(info.name)) and high > 1), high


def type_rank(dtype: np.dtype[Any]) -> int:
    """The kind of a type, by generality: 0 bool, 1 integer, 2 float, 3 anything else."""
    if dtype == BFLOAT16:
        return 2
    return {"b": 0, "i": 1, "u": 1, "f": 2}.get(dtype.kind, 3)


def describe(shape: Sequence[int | str | None], any_batch: bool = False) -> str:
    """A declared shape for messages: ``(N, 3, ?, ?)``."""
    dims = [str(d) if d is not None else "?" for d in shape]
    return f"({', '.join(['N', *dims[1:]] if any_batch and dims else dims)})"
