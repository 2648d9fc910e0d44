"""The pixel values of made-up images, and of image files without mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.dead_leaves import dead_leaves
from onnx_merge.calibration.input_statistics import GIVEN, InputRange, input_range
from onnx_merge.calibration.pixel_convention import PixelConvention, likely_convention
from onnx_merge.calibration.synthetic import colour_axis, synthetic_feeds
from onnx_merge.errors import UsageError
from onnx_merge.inputs.feeds import Sizes, index_bounds, resolve_shapes
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import PIXEL_CONVENTIONS

Array = NDArray[Any]


@dataclass(frozen=True)
class InputRanges:
    """``known``: statistics of the pixels by input name; ``notes``: what was taken, and how sure that is."""

    known: Mapping[str, InputRange] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def given_ranges(
    inputs: Sequence[TensorInfo],
    sizes: Sizes,
    limits: Sequence[float] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> InputRanges | None:
    """The pixel values that the user gave: ``limits``, the values of black and white, or the ``mean`` that is
    subtracted from pixels in 0..1 and the ``std`` that they are then divided by. None if there is neither.

    Raises
    ------
    UsageError: their number fits no input.
    """
    if limits is None and mean is None and std is None:
        return None
    ranges = {}
    for name, (_, channels) in _images(inputs, sizes).items():
        if limits is not None:
            black, white = (np.full(channels, value) for value in limits)
        else:
            taken, divided = per_channel("mean", mean, channels, 0.0), per_channel("std", std, channels, 1.0)
            black, white = -taken / divided, (1 - taken) / divided
        ranges[name] = InputRange.of_pixels(black, white, GIVEN)
    return InputRanges(ranges)


def found_ranges(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], sizes: Sizes, provider: ProviderChoice, layers: int
) -> InputRanges:
    """The pixel values that ``model`` shows: see `shown_ranges`; else by how inner layers answer to made-up images.
    ``layers``: largest number of layers that are looked at."""
    known = shown_ranges(model, inputs, sizes)
    unknown = {name: channels for name, (_, channels) in _images(inputs, sizes).items() if name not in known}
    if not unknown:
        return InputRanges(known)

    def images(convention: PixelConvention) -> Mapping[str, Array]:
        return synthetic_feeds(
            inputs,
            PIXEL_CONVENTIONS.images,
            bounds=index_bounds(model),
            sizes=sizes,
            model=model,
            ranges={name: convention.of(channels) for name, channels in unknown.items()},
        )

    found = likely_convention(model, images, provider, layers)
    if found is None:
        return InputRanges(known)
    convention, clear = found
    known |= {name: convention.of(channels) for name, channels in unknown.items()}
    sure = "" if clear else ", but another scale fits nearly as well"
    return InputRanges(
        known,
        (
            f"pixels of {', '.join(unknown)} are taken as {convention.name}, by how inner layers answer to "
            f"images{sure}: --input-range or --mean and --std win over it",
        ),
    )


def shown_ranges(model: onnx.ModelProto, inputs: Sequence[TensorInfo], sizes: Sizes) -> dict[str, InputRange]:
    """The pixel values that ``model`` shows by its own normalisation or recorded statistics, by input name."""
    shapes, found = resolve_shapes(inputs, 1, sizes), {}
    for name, (axis, channels) in _images(inputs, sizes).items():
        images = dead_leaves(64, channels, 32, 32, np.random.default_rng(0))
        shown = input_range(model, name, axis, len(shapes[name]), images)
        if shown is not None:
            found[name] = shown
    return found


def per_channel(name: str, given: Sequence[float] | None, channels: int, default: float) -> np.ndarray:
    """The values of the option ``name`` for each channel (C,), from one for each or one for all.

    Raises
    ------
    UsageError: their number is another one, or they are not finite, or not positive for ``std``.
    """
    values = np.array([default] if given is None else list(given), np.float32)
    if values.shape not in ((1,), (channels,)):
        raise UsageError(f"{name} has {len(values)} numbers, but the model's images have {channels} channels")
    if not np.isfinite(values).all() or (name == "std" and values.min() <= 0):
        raise UsageError(f"{name} must be {'positive' if name == 'std' else 'finite'} numbers, not {values.tolist()}")
    return np.broadcast_to(values, (channels,))


def _images(inputs: Sequence[TensorInfo], sizes: Sizes) -> dict[str, tuple[int, int]]:
    """Input name -> axis of the channels and their number, of inputs that take images of real numbers."""
    shapes = resolve_shapes(inputs, 1, sizes)
    found = {}
    for info in inputs:
        axis = colour_axis(info, shapes[info.name])
        if axis is not None and info.dtype != np.uint8:
            found[info.name] = axis, shapes[info.name][axis]
    return found
