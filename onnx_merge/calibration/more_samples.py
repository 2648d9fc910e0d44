"""More samples to calibrate on than a few hundred, for models that have use for them.

More of those that the user gives; where there are none, mirror images of them, for which no label is needed: what the
original model makes of a mirror image is what the compressed one is to make of it. Or more that are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.synthetic import channel_axis
from onnx_merge.runtime.session import TensorInfo
from passes.numerics.arrays import has_rows
from passes.statistics.sample_need import MoreSamples

Array = NDArray[Any]
TIMES = (2, 4)
"""How many times as many samples are made up, at first and at last."""


def more_given(
    found: Calibration, inputs: Sequence[TensorInfo], load: Callable[[int], Calibration] | None
) -> list[MoreSamples]:
    """Twice as many samples as those of the user that were ``found``; ``load`` reads so many anew, where that can be
    done. Nothing where neither more nor mirror images can be had."""
    widths = _widths(found.feeds, inputs)
    return [partial(_given, found, widths, load)] if widths or load else []


def more_made(found: Calibration, load: Callable[[int], Calibration]) -> list[MoreSamples]:
    """Twice and four times as many as the made-up samples that were ``found``; ``load`` makes as many, by seed."""
    return [partial(_made, found, load, times) for times in TIMES]


def _given(
    found: Calibration, widths: Mapping[str, int], load: Callable[[int], Calibration] | None
) -> tuple[Mapping[str, Array], str]:
    more = load(2 * len(found)) if load else found
    if len(more) == 2 * len(found):
        return more.feeds, f"{len(more)} of the samples served"
    return _beside(found.feeds, widths) if widths else found.feeds, "mirror images served too"


def _beside(feeds: Mapping[str, Array], widths: Mapping[str, int]) -> dict[str, Array]:
    """Each sample and its mirror image, next to each other, so that halves of the samples have no image in common."""
    both: dict[str, Array] = {}
    for name, array in feeds.items():
        if array.ndim:
            other = np.flip(array, widths[name]) if name in widths else array
            array = np.stack([array, other], 1).reshape(-1, *array.shape[1:])
        both[name] = array
    return both


def _widths(feeds: Mapping[str, Array], inputs: Sequence[TensorInfo]) -> dict[str, int]:
    """Input -> axis along which its images are wide, where it takes images."""
    found: dict[str, int] = {}
    for info in inputs:
        shape = feeds[info.name].shape
        channels = channel_axis(info, shape) if len(shape) == 4 else None
        if channels is not None:
            found[info.name] = 3 if channels == 1 else 2
    return found


def _made(found: Calibration, load: Callable[[int], Calibration], times: int) -> tuple[Mapping[str, Array], str]:
    parts = [found.feeds, *(load(seed).feeds for seed in range(1, times))]
    feeds = {n: np.concatenate([part[n] for part in parts]) if has_rows(a) else a for n, a in found.feeds.items()}
    return feeds, f"{times * len(found)} made-up samples served"
