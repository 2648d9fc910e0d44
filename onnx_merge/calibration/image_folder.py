"""Read samples from a folder of images, resized, cropped and normalised as image classifiers expect."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.array_files import evenly_spaced_rows
from onnx_merge.calibration.input_ranges import per_channel
from onnx_merge.calibration.input_statistics import GIVEN, InputRange
from onnx_merge.calibration.sample_room import UNLIMITED, SampleRoom
from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.feeds import Sizes, describe, resolve_shapes
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import PIXEL_CONVENTIONS
from passes.samples.sample_files import release_pages

Array = NDArray[Any]
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> Pillow's name of the colour mode."""
PAGES_RELEASED = 8
"""After so many images the memory is freed in which they were written to a file."""


@dataclass(frozen=True, eq=False)
class ImageSettings:
    """How pixels are converted to inputs: see `onnx_merge.calibration.load.load_calibration`."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    layout: str = "auto"
    ranges: Callable[[], Mapping[str, InputRange]] = dict
    sizes: Sizes | None = None
    room: SampleRoom = UNLIMITED


def image_files(folder: Path) -> list[Path]:
    """The image files in ``folder`` and its subfolders, sorted by path."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def load_images(
    paths: Sequence[Path], inputs: Sequence[TensorInfo], count: int, settings: ImageSettings
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """At most ``count`` images, evenly spaced over ``paths``, as the model's input (N, ...), and notes for the user.

    The short side is resized to that of the input, and the centre is cropped. Pixels are scaled to 0..1, ``mean`` is
    subtracted, and the result is divided by ``std``. Inputs of type uint8 take the bytes unchanged.

    Raises
    ------
    InputError: an image cannot be read, or the model does not take images.
    UsageError: ``mean``, ``std`` or ``layout`` do not fit; or Pillow is not installed.
    """
    info, axis, shape = _image_input(inputs, settings)
    channels, (height, width) = shape[axis], [n for a, n in enumerate(shape) if a not in (0, axis)]
    notes = []
    if any(not isinstance(dim, int) or dim < 1 for dim in info.shape[1:]):
        notes.append(f"images are cut to {height} x {width}, since the model leaves the size open: see --input-shape")
    bytes_ = info.dtype == np.uint8
    if bytes_ and (settings.mean is not None or settings.std is not None):
        raise UsageError(f"input {info.name!r} takes bytes: mean and std do not apply")
    mean, std = (per_channel(name, getattr(settings, name), channels, float(name == "std")) for name in ("mean", "std"))
    black, white = -mean / std, (1 - mean) / std
    if settings.mean is None and settings.std is None and not bytes_:
        black, white = _black_and_white(info, channels, settings)
        notes.append(
            f"pixels go from {black[0]:g} to {white[0]:g}, with no mean and std: "
            "if the model was trained with, give them"
        )
    pillow = _pillow()
    each = info.dtype.itemsize * height * width * channels
    wanted = min(count, len(paths))
    count = max(1, int(min(wanted, settings.room.most / each)))
    if count < wanted:
        notes.append(f"{count} images were read: more do not fit --memory-limit")
    feed = settings.room.empty((count, *shape[1:]), info.dtype, count * each)
    for k, path in enumerate(paths[k] for k in evenly_spaced_rows(len(paths), count)):
        pixels = _pixels(pillow, path, height, width, channels)
        image = pixels if bytes_ else black + (white - black) * (pixels / np.float32(255))
        feed[k] = image.transpose(2, 0, 1) if axis == 1 else image
        if k % PAGES_RELEASED == 0:
            release_pages()
    return {info.name: feed}, tuple(notes)


def _image_input(inputs: Sequence[TensorInfo], settings: ImageSettings) -> tuple[TensorInfo, int, tuple[int, ...]]:
    """The model's input, the axis of its channels, and its shape (1, ...)."""
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise InputError(f"images can feed models with one input, not {names}: give .npz files with these keys")
    info = inputs[0]
    problem = f"images do not fit input {info.name!r} of type {info.dtype} and shape {describe(info.shape)}"
    if len(info.shape) != 4 or (info.dtype.kind in "iub" and info.dtype != np.uint8) or info.dtype == object:
        raise InputError(f"{problem}: give arrays")
    shape = resolve_shapes(inputs, 1, settings.sizes or {})[info.name]
    axes = {"nchw": (1,), "nhwc": (3,)}.get(settings.layout, (1, 3))
    axis = next((a for a in axes if shape[a] in MODES), None)
    if axis is None:
        if settings.layout != "auto":
            raise UsageError(f"{problem} in the layout {settings.layout}")
        raise InputError(f"{problem}: it has neither 1, 3 nor 4 channels; give arrays")
    return info, axis, shape


def _black_and_white(info: TensorInfo, channels: int, settings: ImageSettings) -> tuple[Array, Array]:
    """The values (C,) of black and white: those that the user gave, or of another scale that the model shows, else 0
    and 1."""
    known = settings.ranges().get(info.name)
    if known is not None and known.limits is not None:
        black, white = known.limits
        given = known.basis == GIVEN
        if given or np.all(white - black > PIXEL_CONVENTIONS.other_scale):
            return black, white
    return np.zeros(channels), np.ones(channels)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image"), importlib.import_module("PIL.ImageOps")
    except ImportError as error:
        raise UsageError("reading images needs Pillow: pip install 'onnx_merge[images]'") from error


def _pixels(pillow: Any, path: Path, height: int, width: int, channels: int) -> Array:
    """The centre crop of an image (H, W, C), as bytes."""
    module, operations = pillow
    try:
        with module.open(path) as opened:
            image = operations.exif_transpose(opened).convert(MODES[channels])
            # Resized to cover the input, then cropped.
            image = operations.fit(image, (width, height), module.Resampling.BILINEAR)
            return np.asarray(image, np.uint8).reshape(height, width, channels)
    except (OSError, ValueError, SyntaxError, module.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
