"""Load calibration samples from any source that the user names, or generate synthetic ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.array_files import array_files, load_array_file, load_array_folder
from onnx_merge.calibration.image_folder import ImageSettings, image_files, load_images
from onnx_merge.calibration.input_ranges import shown_ranges
from onnx_merge.calibration.input_statistics import InputRange
from onnx_merge.calibration.python_source import is_pair, load_function, load_items
from onnx_merge.calibration.sample_room import SampleRoom
from onnx_merge.calibration.synthetic import has_images, synthetic_feeds
from onnx_merge.config.user_code import split_function
from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.feeds import Sizes, index_bounds, random_feeds
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import SYNTHETIC
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at
from passes.statistics.tensor_store import ScratchSpace

Array = NDArray[Any]
KINDS = "an .npz or .npy file, a folder of such files or of images, module.py:function, synthetic or none"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Samples for every input: ``feeds`` (N, ...) by input name, N being the number of samples."""

    feeds: dict[str, Array]
    source: str
    """A description for the report, such as "calib.npz", "folder of 312 images" or "synthetic images"."""
    real: bool
    """Whether the samples are the user's, not synthetic."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sample_count(self.feeds)

    def take(self, count: int) -> Calibration:
        """At most ``count`` of the samples, evenly spaced."""
        total = len(self)
        if total <= count:
            return self
        rows = np.linspace(0, total - 1, count).round().astype(int)
        return replace(self, feeds=samples_at(self.feeds, rows))


def load_calibration(
    source: object,
    inputs: Sequence[TensorInfo],
    *,
    count: int = 256,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: str = "auto",
    model: onnx.ModelProto | None = None,
    ranges: Callable[[], Mapping[str, InputRange]] | None = None,
    sizes: Sizes | None = None,
    most: float = math.inf,
    scratch: ScratchSpace | None = None,
) -> Calibration:
    """At most ``count`` samples from ``source``, checked against ``inputs``. The result is deterministic.

    Parameters
    ----------
    source: one of

        - ``"synthetic"``, ``"auto"`` or None: synthetic samples (see `onnx_merge.calibration.synthetic`);
        - ``"none"``: no samples;
        - a path: an .npz or .npy file, a folder of such files, or a folder of images;
        - ``"module.py:function"``: a function in a file. It is called, and returns or yields one of the following;
        - arrays by input name, or the array of a single input: (N, ...);
        - an iterable of such arrays, of one or several samples each, with or without the batch axis;
        - an object with ``get_next``, as onnxruntime's calibration takes it, or a function that returns any of these;
        - a pair of an iterable and a function that converts each of its items to arrays. A folder in place of the
          iterable stands for the paths of its files.
    count: maximum number of samples.
    seed: of synthetic samples.
    mean, std: of pixels in 0..1, for images; one value for each channel, or one for all.
    layout: of images: "nchw", "nhwc" or "auto", which takes the axis with 1, 3 or 4 channels.
    model: its normalisation and embeddings show what its inputs are like.
    ranges: returns the statistics of pixels by input name, for images that are made up, and for image files without
        ``mean`` and ``std``. Called only if there are such images. None: what ``model`` shows.
    sizes: of dynamic dimensions, by symbol or input, for synthetic samples and for cropping images.
    most: bytes that the samples may take in memory; there are fewer samples if they would take more.
    scratch: disk space for temporary files, where samples of the user are kept that would take more.

    Raises
    ------
    InputError: the source cannot be read, or does not fit the model.
    UsageError: the arguments are invalid, or images are to be read and Pillow is not installed.
    """
    if count < 1:
        raise UsageError(f"calibration needs at least 1 sample, not {count}")
    if ranges is None:
        ranges = partial(shown_ranges, model, inputs, sizes or {}) if model is not None else dict
    if source is None or (isinstance(source, str) and source in ("auto", "synthetic")):
        return _synthetic(inputs, count, seed, model, ranges, sizes, most)
    if isinstance(source, str) and source == "none":
        return Calibration({}, "none", False)
    room = SampleRoom(most, scratch)
    return _given(source, inputs, count, ImageSettings(mean, std, layout, ranges, sizes, room))


def _given(source: object, inputs: Sequence[TensorInfo], count: int, images: ImageSettings) -> Calibration:
    """The user's samples, with a note if the memory limit reduced their number."""
    found = _read(source, inputs, count, images)
    if not len(found) or not len(found) < count:
        return found
    each = sum(a.nbytes for a in found.feeds.values() if a.ndim) / len(found)
    if each * (len(found) + 1) <= images.room.most:
        return found
    return replace(found, notes=(*found.notes, f"{len(found)} samples were read: more do not fit --memory-limit"))


def _read(source: object, inputs: Sequence[TensorInfo], count: int, images: ImageSettings) -> Calibration:
    room = images.room
    if isinstance(source, (str, os.PathLike)):
        function = split_function(os.fspath(source))
        if function is not None:
            feeds = load_function(*function, inputs, count, room)
            return Calibration(feeds, f"{function[0].name}:{function[1]}", True)
        return _from_path(Path(source), inputs, count, images)
    if is_pair(source) and isinstance(source[0], (str, os.PathLike)):
        folder = Path(source[0])
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: beside a function, give a folder or an iterable")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return Calibration(load_items((files, source[1]), inputs, count, f"{folder}", room), f"{folder.name}", True)
    return Calibration(load_items(source, inputs, count, "calib", room), "arrays from Python", True)


def _from_path(path: Path, inputs: Sequence[TensorInfo], count: int, settings: ImageSettings) -> Calibration:
    if not path.is_dir():
        if path.suffix.lower() not in (".npz", ".npy"):
            problem = "is no calibration data" if path.exists() else "does not exist"
            raise InputError(f"{path} {problem}: give {KINDS}")
        return Calibration(load_array_file(path, inputs, count, settings.room), path.name, True)
    arrays, images = array_files(path), image_files(path)
    if arrays and images:
        raise InputError(
            f"{path} holds both arrays and images, such as {arrays[0].name} and {images[0].name}: part them"
        )
    if arrays:
        feeds = load_array_folder(arrays, inputs, count, settings.room)
        return Calibration(feeds, f"folder of {len(arrays)} array files", True)
    if not images:
        raise InputError(f"{path} holds no .npz or .npy files and no images (jpg, png, bmp, webp)")
    feeds, notes = load_images(images, inputs, count, settings)
    return Calibration(feeds, f"folder of {len(images)} images", True, notes)


def _synthetic(
    inputs: Sequence[TensorInfo],
    count: int,
    seed: int,
    model: onnx.ModelProto | None,
    ranges: Callable[[], Mapping[str, InputRange]],
    sizes: Sizes | None,
    most: float,
) -> Calibration:
    bounds = index_bounds(model) if model is not None else {}
    one = random_feeds(inputs, 1, seed, sizes, bounds)
    each = max(1, sum(a.nbytes for a in one.values()) // max(1, sample_count(one)))
    fitting = max(1, min(count, max(8, int(min(most, SYNTHETIC.bytes) / each))))
    notes = () if fitting == count else (f"{fitting} synthetic samples instead of {count}: they are large",)
    images = has_images(inputs, sizes)
    feeds = synthetic_feeds(inputs, fitting, seed, bounds, sizes, model, ranges() if images else None)
    kind = "images" if images else "samples"
    return Calibration(feeds, f"synthetic {kind}", False, notes)
