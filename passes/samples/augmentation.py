"""Shifted copies of images, from which a student learns beside the samples.

They need no labels: the target is the original's output on the shifted image. Few samples are fitted too closely, and
an image that is moved a little is a new one to all layers (data augmentation by translation: Simard, Steinkraus and
Platt, Best practices for convolutional neural networks, ICDAR 2003).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from passes.graph.model import Array
from passes.settings.sample_tuning import AugmentationTuning


def image_plane(array: Array, tuning: AugmentationTuning) -> int | None:
    """The first of the two axes of the places, height and width, of a batch of images. None for other arrays.

    A single channel on a long plane is no image: rows of a spectrogram, or of coefficients over time, mean different
    things.
    """
    if array.ndim != 4 or array.dtype.kind != "f":
        return None
    for channel, plane in ((1, 2), (3, 1)):
        sides = array.shape[plane : plane + 2]
        if min(sides) < tuning.smallest_side:
            continue
        if array.shape[channel] in (3, 4) or (array.shape[channel] == 1 and max(sides) <= 2 * min(sides)):
            return plane
    return None


def has_image_arrays(feed: Mapping[str, Array], tuning: AugmentationTuning) -> bool:
    """Whether some input of the batch is one of images."""
    return any(image_plane(array, tuning) is not None for array in feed.values())


def shifted(feed: Mapping[str, Array], seed: int, tuning: AugmentationTuning) -> dict[str, Array]:
    """The batch with each image moved by up to a share of its sides; values at the border are repeated.

    Each sample moves on its own, all images of one in the same direction. Other inputs stay.
    """
    found = dict(feed)
    for name, array in feed.items():
        plane = image_plane(array, tuning)
        if plane is not None:
            moves = np.random.default_rng(seed).uniform(-1, 1, (len(array), 2))
            found[name] = _shift_samples(array, plane, moves, tuning.shift)
    return found


def _shift_samples(array: Array, plane: int, moves: Array, share: float) -> Array:
    """``array`` with sample i moved by ``share`` times the sides of the plane times ``moves`` (N, 2)."""
    made = np.empty_like(array)
    for index, move in enumerate(moves):
        sample = array[index]
        for axis, part in zip((plane - 1, plane), move, strict=True):
            size = sample.shape[axis]
            source = np.clip(np.arange(size) + round(float(part) * share * size), 0, size - 1)
            sample = np.take(sample, source, axis)
        made[index] = sample
    return made
