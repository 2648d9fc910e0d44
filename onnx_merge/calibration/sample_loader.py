"""Loads the user's samples of a model, or makes some up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.input_ranges import InputRanges, found_ranges, given_ranges
from onnx_merge.calibration.load import Calibration, load_calibration
from onnx_merge.calibration.splits import HELD_OUT_SEED, first_of_each, to_load
from onnx_merge.calibration.synthetic import has_images
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.inputs.random_samples import fewer_large, random_samples
from onnx_merge.io.scratch_space import scratch_space
from onnx_merge.original.opened_model import OpenedModel
from onnx_merge.runtime.batching import divides
from onnx_merge.tuning.calibration import SPLITS
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at

Array = NDArray[Any]


@dataclass(eq=False)
class SampleLoader:
    """Loads or makes up samples of ``original``, which must run, by its options."""

    original: OpenedModel
    _ranges: InputRanges | None = field(default=None, init=False, repr=False)

    def load(self, count: int, seed: int | None = None, source: str | None = None) -> Calibration:
        """At most ``count`` samples of ``source``, by default that of the option ``calib``.

        Raises
        ------
        InputError, UsageError: the samples cannot be read, or do not fit the model.
        """
        original, options = self.original, self.original.options
        return load_calibration(
            options.calib if source is None else source,
            original.inputs,
            count=count,
            seed=options.seed if seed is None else seed,
            mean=options.mean,
            std=options.std,
            layout=options.layout,
            model=original.model,
            ranges=lambda: self._pixel_ranges().known,
            sizes=original.memory.sizes,
            most=original.memory.inputs,
            scratch=scratch_space(),
        )

    def load_all(self) -> Calibration:
        """As many samples as are fitted to and held out."""
        options = self.original.options
        if isinstance(options.calib, str) and options.calib == "synthetic":
            return self.load(options.sample_count)
        if not options.fits:
            promise = options.confidence is not None and not options.labels
            return self.load(SPLITS.guaranteed if promise else max(options.sample_count, options.compared_samples))
        half = options.selects_by_drop and not options.labels
        promise = half and options.confidence is not None
        beside = 0 if options.labels else min(options.compared_samples, SPLITS.beside)
        return self.load(to_load(options.sample_count, half=half, promise=promise, beside=beside))

    def random(self, count: int) -> dict[str, Array]:
        """``count`` synthetic samples (N, ...) to measure on, images if the model takes images. Their seed differs from
        that of the samples fitted to."""
        inputs, memory, bounds = self.original.inputs, self.original.memory, index_bounds(self.original.model)
        seed = self.original.options.seed + HELD_OUT_SEED
        count = fewer_large(inputs, count, memory.inputs, memory.sizes, bounds)
        if has_images(inputs, memory.sizes) and len({i.shape[0] if i.shape else None for i in inputs}) == 1:
            return self.load(count, seed, "synthetic").feeds  # also where the user wants none to calibrate on
        return random_samples(inputs, count, seed, memory.sizes, bounds)

    def random_batch(self, size: int) -> dict[str, Array]:
        """One batch of ``size`` samples of noise."""
        original = self.original
        return random_feeds(
            original.inputs, size, original.options.seed, original.memory.sizes, index_bounds(original.model)
        )

    def without_copies(self, found: Calibration) -> Calibration:
        """The samples without those that repeat earlier ones."""
        rows = self.first_of_each(found.feeds)
        return replace(found, feeds=samples_at(found.feeds, rows)) if len(rows) < len(found) else found

    def first_of_each(self, feeds: Mapping[str, Array]) -> NDArray[np.int64]:
        """Indices of the samples that repeat no earlier one; all of them where rows of the inputs are no samples."""
        if not self.original.rows_are_samples or not divides(feeds, self.original.inputs):
            return np.arange(sample_count(feeds))
        return first_of_each(feeds, self.original.memory.unit)

    @property
    def range_notes(self) -> tuple[str, ...]:
        """Notes on the pixel values of images, if images were made, or read without mean and std."""
        return self._ranges.notes if self._ranges is not None else ()

    def _pixel_ranges(self) -> InputRanges:
        """The pixel values of images, as the user gave them or as the model shows them. Found on first use."""
        if self._ranges is None:
            original, options = self.original, self.original.options
            model, inputs, sizes = original.model, original.inputs, original.memory.sizes
            self._ranges = given_ranges(inputs, sizes, options.input_range, options.mean, options.std)
            if self._ranges is None:
                layers = original.memory.examined_layers(model)
                self._ranges = found_ranges(model, inputs, sizes, original.provider, layers)
        return self._ranges
