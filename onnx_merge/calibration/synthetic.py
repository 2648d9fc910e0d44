"""Generate synthetic inputs that resemble data: dead-leaves images, and token ids with a Zipf distribution.

They are meant to cause activations like those of real data. The noise of `onnx_merge.inputs.feeds.random_feeds` only
serves to check that a model runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.dead_leaves import dead_leaves
from onnx_merge.calibration.input_statistics import InputRange, input_range
from onnx_merge.inputs.feeds import Sizes, is_mask, refuse_strings, resolve_shapes, value_range
from onnx_merge.runtime.batching import rows_of_run, rows_of_sample
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import SYNTHETIC

Array = NDArray[Any]


def synthetic_feeds(
    inputs: Sequence[TensorInfo],
    count: int,
    seed: int = 0,
    bounds: Mapping[str, int] | None = None,
    sizes: Sizes | None = None,
    model: onnx.ModelProto | None = None,
    ranges: Mapping[str, InputRange] | None = None,
) -> dict[str, Array]:
    """``count`` samples (count, ...) for every input, also if the model's batch size is fixed; more rows where a sample
    takes several (see `onnx_merge.runtime.batching.rows_of_sample`).

    Images have the statistics in ``ranges``, by input name, or those that ``model`` shows (see
    `onnx_merge.calibration.input_statistics`), else mean 0 and standard deviation 1. For an image of rank 3, which has
    no batch axis, the samples are concatenated along the first axis. A scalar input has one value. The values of an
    input depend on the seed, its name and its shape, not on the other inputs. For ``bounds`` see
    `onnx_merge.inputs.feeds.index_bounds`.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names a symbol or input that it does not have.
    InputError: an input takes strings.
    """
    rows, known = rows_of_sample(inputs), ranges or {}
    shapes = resolve_shapes(inputs, 1 if rows_of_run(inputs) else count, sizes or {})
    return {
        i.name: _values(
            i, shapes[i.name], count * rows.get(i.name, 1), seed, (bounds or {}).get(i.name), model, known.get(i.name)
        )
        for i in inputs
    }


def colour_axis(info: TensorInfo, shape: Sequence[int]) -> int | None:
    """The axis of the colour channels in ``shape``; None if the input is not an image."""
    if 0 in shape or (info.dtype != np.uint8 and (info.dtype.kind in "iub" or info.dtype == object)):
        return None
    if len(shape) == 4:
        for axis, plane in ((1, shape[2:]), (3, shape[1:3])):
            if shape[axis] in (1, 3, 4) and min(plane) >= SYNTHETIC.smallest_edge:
                return axis
    if len(shape) == 3 and isinstance(info.shape[0], int):  # no batch axis; one channel could also be a sequence
        for axis, plane in ((0, shape[1:]), (2, shape[:2])):
            if shape[axis] in (3, 4) and min(plane) >= SYNTHETIC.smallest_edge and max(plane) <= 8 * min(plane):
                return axis
    return None


def has_images(inputs: Sequence[TensorInfo], sizes: Sizes | None = None) -> bool:
    """Whether any of the inputs is an image."""
    shapes = resolve_shapes(inputs, None, sizes or {})
    return any(colour_axis(info, shapes[info.name]) is not None for info in inputs)


def _values(
    info: TensorInfo,
    shape: tuple[int, ...],
    count: int,
    seed: int,
    upper: int | None,
    model: onnx.ModelProto | None,
    known: InputRange | None,
) -> Array:
    refuse_strings([info])
    rng = np.random.default_rng([seed, zlib.crc32(info.name.encode())])
    axis = colour_axis(info, shape)
    if axis is not None:
        return _images(info, shape, axis, count, rng, model, known)
    if shape and shape[0]:  # an input that is declared empty stays empty
        shape = (count, *shape[1:])
    if info.dtype.kind in "iub":
        return _integers(info, shape, rng, upper)
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 2 and values.size:
        longest = 1 + int(np.argmax(shape[1:]))
        # A first-order autoregressive process; all values have variance 1.
        new = values * np.float32(np.sqrt(1 - SYNTHETIC.correlation**2))
        first = (slice(None),) * longest + (slice(0, 1),)
        new[first] = values[first]
        # scipy.signal.lfilter gives the same numbers, but takes a second to import.
        values = new.astype(np.float64)
        for before, now in pairwise(np.moveaxis(values, longest, 0)):
            now += SYNTHETIC.correlation * before
    return values.astype(info.dtype)


def _integers(info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator, upper: int | None) -> Array:
    if is_mask(info, upper):
        return np.ones(shape, info.dtype)
    name = info.name.lower()
    low, high = value_range(info, len(shape), upper)
    if "position" in name and upper is not None and len(shape) > 1:
        return np.broadcast_to(np.arange(shape[-1]) % high, shape).astype(info.dtype)
    if "type" in name and high > 1 and len(shape) > 1:  # segment ids: first sentence 0, second sentence 1
        boundary = rng.integers(1, shape[-1] + 1, (*shape[:-1], 1))
        return (np.arange(shape[-1]) >= boundary).astype(info.dtype)
    values = rng.integers(low, high, shape)
    if upper is not None and upper > 2:
        # Half of the ids follow Zipf's law, since vocabularies are usually sorted by frequency. The others are uniform.
        zipf = np.minimum(np.exp(rng.random(shape) * np.log(high)), high) - 1
        values = np.where(rng.random(shape) < 0.5, np.maximum(low, zipf.astype(np.int64)), values)
    return values.astype(info.dtype)


def _images(
    info: TensorInfo,
    shape: tuple[int, ...],
    axis: int,
    count: int,
    rng: np.random.Generator,
    model: onnx.ModelProto | None,
    known: InputRange | None,
) -> Array:
    first = len(shape) - 3  # the image's first axis
    sizes = [size for a, size in enumerate(shape) if a >= first and a != axis]
    images = dead_leaves(count, shape[axis], sizes[0], sizes[1], rng)
    if known is None and model is not None:
        known = input_range(model, info.name, axis, len(shape), images[:64])
    if known is None and info.dtype == np.uint8:
        known = InputRange.of_pixels(np.zeros(shape[axis]), np.full(shape[axis], 255.0), "the type of the input")
    if known is not None:
        images *= known.deviation.astype(np.float32)[:, None, None]
        images += known.mean.astype(np.float32)[:, None, None]
        if known.limits is not None:
            black, white = (limit.astype(np.float32)[:, None, None] for limit in known.limits)
            np.clip(images, np.minimum(black, white), np.maximum(black, white), out=images)
    if axis != first:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    if len(shape) == 3:
        images = images.reshape(-1, *images.shape[2:])
    return np.rint(images).astype(np.uint8) if info.dtype == np.uint8 else images.astype(info.dtype, copy=False)
