"""The sets of samples of a model: those that layers are fitted to, those that are compared, and single batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.input_ranges import InputRanges, found_ranges, given_ranges
from onnx_merge.calibration.load import Calibration, load_calibration
from onnx_merge.calibration.more_samples import more_synthetic_samples, more_user_samples
from onnx_merge.calibration.runnable_model import RunnableModel
from onnx_merge.calibration.splits import HELD_OUT_SEED, evenly_spaced, first_of_each, found_in, parted, to_load
from onnx_merge.calibration.synthetic import has_images
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.inputs.random_samples import fewer_large, random_samples
from onnx_merge.inputs.sample_axes import as_fed
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.io.scratch_space import scratch_space
from onnx_merge.runtime.batching import divides
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.calibration import SPLITS
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at
from passes.samples.sample_need import MoreSamples

Array = NDArray[Any]


@dataclass
class SampleSets(RunnableModel):
    """A model, and the samples that were loaded or are made for it."""

    samples: Samples | None = None
    """The samples that outputs are compared on; None if random samples are used."""
    source: str = "random"
    in_sample: bool = False
    """Whether the samples measured on are also fitted to, because there were too few to split."""
    real: bool = True
    """Whether the samples measured on are the user's, not synthetic."""
    _loaded: Calibration | None = field(default=None, init=False, repr=False)

    def calibration(self) -> Calibration | None:
        """At most ``sample_count`` calibration samples, the user's or synthetic ones; None if there are none."""
        if self.session is None or (isinstance(self.options.calib, str) and self.options.calib == "none"):
            return None
        if self._loaded is None:
            self._loaded = self._load(self.options.sample_count)
        return self._loaded.take(self.options.sample_count)

    def more_samples(self, found: Calibration) -> list[MoreSamples]:
        """Loaders of larger sets than the calibration samples ``found``, each twice as large as the one before.

        Empty if the user chose the number of samples.
        """
        if self.options.calib_samples is not None or self.session is None:
            return []
        if found.real:
            again = not self._selects_by_drop and self.options.calib_file is not None
            return more_user_samples(found, self.session.inputs, self._load_others if again else None)
        return more_synthetic_samples(found, lambda seed: self._load(len(found), self.options.seed + seed))

    def _load_others(self, count: int) -> Calibration:
        """At most ``count`` of the user's samples, without those that results are measured on."""
        held = {} if self.samples is None or self.in_sample else self.samples.feeds
        more = self._distinct(self._load(count if self.options.labels else count + sample_count(held)))
        feeds, _ = parted(more.feeds, np.flatnonzero(found_in(more.feeds, held)))
        return replace(more, feeds=feeds).take(count)

    def _distinct(self, found: Calibration) -> Calibration:
        """The samples without those that repeat earlier ones."""
        rows = self._first_of_each(found.feeds)
        return replace(found, feeds=samples_at(found.feeds, rows)) if len(rows) < len(found) else found

    def _first_of_each(self, feeds: Mapping[str, Array]) -> NDArray[np.int64]:
        """Indices of the samples that repeat no earlier one; all of them where rows of the inputs are no samples."""
        if self.session is None or not self._rows_are_samples or not divides(feeds, self.session.inputs):
            return np.arange(sample_count(feeds))
        return first_of_each(feeds, self.fitting.unit)

    def _load(self, count: int, seed: int | None = None, source: str | None = None) -> Calibration:
        assert self.session is not None  # samples are loaded only for models that run
        options = self.options
        return load_calibration(
            options.calib if source is None else source,
            self.session.inputs,
            count=count,
            seed=options.seed if seed is None else seed,
            mean=options.mean,
            std=options.std,
            layout=options.layout,
            model=self.model,
            ranges=lambda: self._ranges.known,
            sizes=self.fitting.sizes,
            most=self.fitting.inputs,
            scratch=scratch_space(),
        )

    @cached_property
    def _ranges(self) -> InputRanges:
        """The pixel values of images, as the user gave them or as the model shows them."""
        assert self.session is not None
        options, inputs, sizes = self.options, self.session.inputs, self.fitting.sizes
        given = given_ranges(inputs, sizes, options.input_range, options.mean, options.std)
        if given is not None:
            return given
        return found_ranges(self.model, inputs, sizes, self.provider, self.fitting.examined_layers(self.model))

    @property
    def _load_count(self) -> int:
        """The number of samples to load, including those to hold out."""
        options = self.options
        if isinstance(options.calib, str) and options.calib == "synthetic":
            return options.sample_count
        if not options.fits:
            promise = options.confidence is not None and not options.labels
            return SPLITS.guaranteed if promise else max(options.sample_count, options.compared_samples)
        half = self._selects_by_drop and not options.labels
        promise = half and options.confidence is not None
        beside = 0 if options.labels else min(options.compared_samples, SPLITS.beside)
        return to_load(options.sample_count, half=half, promise=promise, beside=beside)

    @property
    def _selects_by_drop(self) -> bool:
        """Whether the measurement decides which result is chosen."""
        return self.options.max_drop is not None

    def release(self) -> None:
        """Free the calibration samples once they are no longer needed. Samples that outputs are compared on are
        kept."""
        self._loaded = None

    def compared_feeds(self, samples: Samples) -> dict[str, Array]:
        """The subset of ``samples`` that outputs are compared on, (N, ...) by input name."""
        return evenly_spaced(
            samples.feeds, self.options.compared_samples if self.real else self.options.made_up_samples
        )

    def feeds_compared(self) -> dict[str, Array]:
        """The samples (N, ...) on which outputs are compared, the user's or synthetic ones. The model must run."""
        if self.samples is not None:
            return self.compared_feeds(self.samples)
        assert self.session is not None
        return self._random(self.session, self.options.made_up_samples)

    def batch(self, size: int) -> dict[str, Array]:
        """One batch of ``size`` samples that outputs are compared on, repeated if there are fewer, or random ones.

        Raises
        ------
        OnnxMergeError: the model cannot be run, or its inputs cannot be generated.
        """
        if self.session is None:
            raise OnnxMergeError("the model cannot be run")
        if self.samples is None:
            return random_feeds(
                self.session.inputs, size, self.options.seed, self.fitting.sizes, index_bounds(self.model)
            )
        feeds = self.samples.feeds
        chosen = samples_at(feeds, np.arange(size) % max(1, sample_count(feeds)))
        return as_fed(chosen, self.session.inputs)

    def _random(self, session: Session, count: int) -> dict[str, Array]:
        """``count`` synthetic samples to measure on, images if the model takes images. Their seed differs from that of
        the samples fitted to."""
        seed, sizes = self.options.seed + HELD_OUT_SEED, self.fitting.sizes
        count = fewer_large(session.inputs, count, self.fitting.inputs, sizes, index_bounds(self.model))
        if has_images(session.inputs, sizes) and len({i.shape[0] if i.shape else None for i in session.inputs}) == 1:
            return self._load(count, seed, "synthetic").feeds  # also where the user wants none to calibrate on
        return random_samples(session.inputs, count, seed, sizes, index_bounds(self.model))
