"""Enlarge the calibration set for models that need more samples than were loaded at first.

More of the user's samples are loaded. If there are no more, mirror images of them are added: these need no label, since
the compressed model is fitted to the output of the original model on the mirror image. Synthetic sets are enlarged by
making more samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.synthetic import colour_axis
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.calibration import SYNTHETIC
from passes.numerics.arrays import sample_count, samples_joined
from passes.samples.sample_files import file_array, folder_of, release_pages, row_chunks
from passes.samples.sample_need import MoreSamples

Array = NDArray[Any]


def more_user_samples(
    found: Calibration, inputs: Sequence[TensorInfo], load: Callable[[int], Calibration] | None
) -> list[MoreSamples]:
    """Loaders of twice as many samples as the user's samples ``found``.

    ``load`` reads a given number of samples again, and is None if the source can be read only once. Empty if neither
    more samples nor mirror images are available.
    """
    widths = _widths(found.feeds, inputs)
    return [partial(_double, found, widths, load)] if widths or load else []


def more_synthetic_samples(found: Calibration, load: Callable[[int], Calibration]) -> list[MoreSamples]:
    """Loaders of two and four times as many samples as the synthetic samples ``found``. ``load`` makes as many for a
    given seed."""
    return [partial(_make_more, found, load, times) for times in SYNTHETIC.multiples]


def _double(
    found: Calibration, widths: Mapping[str, int], load: Callable[[int], Calibration] | None
) -> tuple[Mapping[str, Array], str]:
    more = load(2 * len(found)) if load else found
    if len(more) == 2 * len(found):
        return more.feeds, f"{len(more)} of the samples served ({_without(found)})"
    feeds = _with_mirror_images(found.feeds, widths) if widths else found.feeds
    return feeds, f"mirror images served too ({_without(found)})"


def _with_mirror_images(feeds: Mapping[str, Array], widths: Mapping[str, int]) -> dict[str, Array]:
    """Each sample followed by its mirror image. Adjacent pairs keep both in the same half when the samples are
    halved."""
    both: dict[str, Array] = {}
    for name, array in feeds.items():
        if array.ndim:
            array = _doubled(array, widths.get(name), len(array) // sample_count(feeds))
        both[name] = array
    return both


def _doubled(array: Array, width: int | None, each: int) -> Array:
    """Each sample of ``each`` rows followed by its mirror image along axis ``width``, or by itself. In a file, if
    ``array`` is in one."""
    if each > 1:
        blocks = array.reshape(-1, each, *array.shape[1:])
        return _doubled(blocks, None if width is None else width + 1, 1).reshape(-1, *array.shape[1:])
    folder, shape = folder_of(array), (2 * len(array), *array.shape[1:])
    both = np.empty(shape, array.dtype) if folder is None else file_array(shape, array.dtype, folder)
    for part in row_chunks(len(array), array):
        both[2 * part.start : 2 * part.stop : 2] = array[part]
        both[2 * part.start + 1 : 2 * part.stop : 2] = array[part] if width is None else np.flip(array[part], width)
        release_pages()
    return both


def _widths(feeds: Mapping[str, Array], inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """Input name -> axis of the image width, for inputs that take images."""
    found: dict[str, int] = {}
    for info in inputs:
        shape = feeds[info.name].shape
        channels = colour_axis(info, shape) if len(shape) == 4 else None
        if channels is not None:
            found[info.name] = 3 if channels == 1 else 2
    return found


def _make_more(found: Calibration, load: Callable[[int], Calibration], times: int) -> tuple[Mapping[str, Array], str]:
    parts = [found.feeds, *(load(seed).feeds for seed in range(1, times))]
    return samples_joined(parts), f"{times * len(found)} made-up samples served ({_without(found)})"


def _without(found: Calibration) -> str:
    """What to give for no more samples than ``found``."""
    return f"--calib-samples {len(found)}: no more"
