"""Options that set which samples are used, and how many."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_merge.config.definition import CHECKS, option
from onnx_merge.config.limits import Limits
from onnx_merge.config.value_kinds import BYTES, CALIB, FILE, NUMBERS, TEXT, WHOLE

SAMPLES = 256
"""Default number of calibration samples."""
PIXELS = ": it is of pixels from 0 to 1"


@dataclass(frozen=True)
class SampleOptions:
    """Calibration samples: source, number and preprocessing."""

    labels: Path | None = field(
        default=None,
        metadata=option(
            CHECKS,
            FILE,
            "NPZ",
            "samples with labels: measure accuracy",
            "An `.npz` file of samples with labels (key `labels` or `y`): outputs are compared on them and accuracy is "
            "measured.",
        ),
    )
    calib: Any = field(
        default=None,
        metadata=option(
            CHECKS,
            CALIB,
            "WHAT",
            "samples without labels: see below",
            "Samples without labels, of which some, 16 to 256, are held out to compare outputs on. They are an "
            "`.npz` file (its keys are the inputs' names) or `.npy`, a folder of such files or of images (`pip install "
            "'onnx_merge[images]'`), `module.py:function` (it is run), `synthetic`, or `none`; from Python also arrays "
            "or an iterable of them.",
        ),
    )
    calib_samples: int | None = field(
        default=None,
        metadata=option(
            CHECKS,
            WHOLE,
            "N",
            "samples to calibrate on ({default}; see below)",
            "Samples to calibrate on, at most. Without it: where yours are fewer than 64, or where a layer has more "
            "inputs than the samples show places and the model is small, twice as many of yours serve, or their mirror "
            "images too, or up to 1,024 made-up ones; a note says so.",
            shown=str(SAMPLES),
            limits=Limits(1, wording="at least 1 sample"),
        ),
    )
    input_range: tuple[float, ...] | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBERS,
            "LOW,HIGH",
            "values of black and white (found from the model)",
            "The values of black and white pixels that the model takes, such as 0,255, for images that are made up and "
            "for a folder of images. Without it and without `--mean` and `--std`: as the model shows them, by its own "
            "normalisation, by recorded statistics, or by how its inner layers answer to images; a note says which.",
        ),
    )
    mean: tuple[float, ...] | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBERS,
            "A,B,C",
            "of images, subtracted from pixels in 0..1 ({default})",
            "For a folder of images, and for images that are made up: mean that is subtracted from pixels in 0..1, "
            "one for each channel or one for all.",
            shown="0",
            limits=Limits(0, 1, hint=PIXELS),
        ),
    )
    std: tuple[float, ...] | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBERS,
            "A,B,C",
            "of images: divides pixels after that ({default})",
            "For the same images: standard deviation by which pixels are then divided.",
            shown="1",
            limits=Limits(0, 1, above=True, hint=PIXELS),
        ),
    )
    layout: str = field(
        default="auto",
        metadata=option(
            CHECKS,
            TEXT,
            "",
            "where a model has its images' channels ({default})",
            "Of a folder of images: where the model has its channels. `auto`: where they stand in its input.",
            choices=("auto", "nchw", "nhwc"),
        ),
    )
    memory_limit: int = field(
        default=2 * 10**9,
        metadata=option(
            CHECKS,
            BYTES,
            "SIZE",
            "beside some 500 MB of libraries ({default})",
            "Of a run at its peak, beside some 500 MB that Python and the libraries take; of a sweep, of all its "
            "processes together. Bytes, or a text such as `500MB`. Samples and activations that do not fit are kept in "
            "temporary files, in the folder of TMPDIR, while the disk has room. Fewer samples serve where more do not "
            "fit, or smaller images where nobody fixed their size; a note or the line on the outputs says so.",
            shown="2GB",
            limits=Limits(1, wording="a positive size, such as 2GB"),
        ),
    )

    @property
    def sample_count(self) -> int:
        """Largest number of calibration samples, before mirror images are added."""
        return SAMPLES if self.calib_samples is None else self.calib_samples

    @property
    def has_samples(self) -> bool:
        """Whether ``calib`` names a source of samples."""
        return self.calib is not None and not (isinstance(self.calib, str) and self.calib in ("auto", "none"))

    @property
    def forbids_samples(self) -> bool:
        """Whether ``calib`` excludes the use of samples."""
        return isinstance(self.calib, str) and self.calib == "none"

    @property
    def asks_for_made_up_samples(self) -> bool:
        """Whether ``calib`` requests made-up samples."""
        return isinstance(self.calib, str) and self.calib == "synthetic"

    @property
    def calib_file(self) -> Path | None:
        """The file or folder that ``calib`` names, or None."""
        if isinstance(self.calib, str):
            path, _, name = self.calib.rpartition(":")
            return Path(path) if name and path else None
        return Path(self.calib) if isinstance(self.calib, os.PathLike) else None
