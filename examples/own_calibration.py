"""Calibration samples from a function: `onnx-merge IN OUT --calib examples/own_calibration.py:samples ...`.

A function suits samples that need preprocessing, lie in a database, or are too many for one array. It may yield, and is
asked for no more than `--calib-samples` and what is held out.

Here the samples are 8 x 8 grey images from an .npz file, which DIGITS names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

NOISE = 0.02
"""Standard deviation of the sensor's noise that is added. The pixels are in 0..1."""


def samples() -> Iterator[dict[str, np.ndarray]]:
    """Feeds of one sample each, by input name. The first axis is the batch."""
    rng = np.random.default_rng(0)
    with np.load(os.environ["DIGITS"]) as file:
        images = file["input"]
    for image in rng.permutation(images):
        noisy = image + NOISE * rng.standard_normal(image.shape)
        yield {"input": np.clip(noisy, 0, 1).astype(np.float32)[None]}
