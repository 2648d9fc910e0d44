"""The samples that results are measured on, and those that layers are fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.more_samples import more_synthetic_samples, more_user_samples
from onnx_merge.calibration.sample_loader import SampleLoader
from onnx_merge.calibration.splits import evenly_spaced, found_in, parted
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.sample_axes import as_fed
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.original.opened_model import OpenedModel
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at
from passes.samples.sample_need import MoreSamples

Array = NDArray[Any]


@dataclass(eq=False)
class ModelSamples:
    """The samples of a model; made by `onnx_merge.calibration.prepared_samples.prepared_samples`."""

    loader: SampleLoader
    measured: Samples | None = None
    """The samples that results are measured on; None if random ones are made for it."""
    source: str = "random"
    """Where they come from."""
    description: str = ""
    """What they are, for messages about a loss that was measured on them."""
    real: bool = False
    """Whether they are the user's, not made up."""
    in_sample: bool = False
    """Whether they are also fitted to, because there were too few to split."""
    split: dict[str, int] | None = None
    """The arguments of `onnx_merge.calibration.splits.held_rows`, if it split the user's samples."""
    notes: tuple[str, ...] = ()
    """What a user should know of them."""
    loaded: Calibration | None = None
    """The samples to fit to; None if there are none, or they are made up on first use."""

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process, without the samples to fit to, which are not needed there."""
        return {**vars(self), "loaded": None}

    @property
    def original(self) -> OpenedModel:
        """The model."""
        return self.loader.original

    def fitted(self) -> Calibration | None:
        """At most ``sample_count`` samples to fit to, the user's or synthetic ones; None if there are none."""
        options = self.original.options
        if self.original.session is None or (isinstance(options.calib, str) and options.calib == "none"):
            return None
        if self.loaded is None:
            self.loaded = self.loader.load(options.sample_count)
        return self.loaded.take(options.sample_count)

    def more_samples(self, found: Calibration) -> list[MoreSamples]:
        """Loaders of larger sets than the samples ``found`` to fit to, each twice as large as the one before.

        Empty if the user chose the number of samples.
        """
        options = self.original.options
        if options.calib_samples is not None or self.original.session is None:
            return []
        if found.real:
            again = not options.selects_by_drop and options.calib_file is not None
            return more_user_samples(found, self.original.inputs, self._load_others if again else None)
        return more_synthetic_samples(found, lambda seed: self.loader.load(len(found), options.seed + seed))

    def _load_others(self, count: int) -> Calibration:
        """At most ``count`` of the user's samples, without those that results are measured on."""
        held = {} if self.measured is None or self.in_sample else self.measured.feeds
        wanted = count if self.original.options.labels else count + sample_count(held)
        more = self.loader.without_copies(self.loader.load(wanted))
        feeds, _ = parted(more.feeds, np.flatnonzero(found_in(more.feeds, held)))
        return replace(more, feeds=feeds).take(count)

    def release(self) -> None:
        """Free the samples to fit to once they are no longer needed. Those that are measured on are kept."""
        self.loaded = None

    def compared(self) -> dict[str, Array]:
        """The samples (N, ...) on which outputs are compared: at most as many as the options say of those that are
        measured on, or synthetic ones. The model must run."""
        options = self.original.options
        if self.measured is None:
            return self.loader.random(options.made_up_samples)
        return evenly_spaced(self.measured.feeds, options.compared_samples if self.real else options.made_up_samples)

    def batch(self, size: int) -> dict[str, Array]:
        """One batch of ``size`` samples that outputs are compared on, repeated if there are fewer, or random ones.

        Raises
        ------
        OnnxMergeError: the model cannot be run, or its inputs cannot be generated.
        """
        if self.original.session is None:
            raise OnnxMergeError("the model cannot be run")
        if self.measured is None:
            return self.loader.random_batch(size)
        feeds = self.measured.feeds
        chosen = samples_at(feeds, np.arange(size) % max(1, sample_count(feeds)))
        return as_fed(chosen, self.original.inputs)
