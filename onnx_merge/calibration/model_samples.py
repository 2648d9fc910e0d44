"""The samples that a model is fitted to and compared on: loaded, split and checked before compression begins."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from onnx_merge.calibration.division import Division, apart_from, divided, divided_labels
from onnx_merge.calibration.sample_sets import SampleSets
from onnx_merge.calibration.splits import HELD_OUT_SEED, evenly_spaced
from onnx_merge.equivalence.verifiable import cannot_load, check_verifiable, unverified_remedy
from onnx_merge.errors import InputError, OnnxMergeError, UnverifiedError, UsageError
from onnx_merge.inputs.feeds import resolve_shapes
from onnx_merge.inputs.input_memory import check_input_memory
from onnx_merge.inputs.integer_inputs import unknown_ranges
from onnx_merge.inputs.memory_fit import MemoryFit, fit_to_memory
from onnx_merge.inputs.size_inputs import fixing
from onnx_merge.inputs.user_arrays import Samples, load_samples
from onnx_merge.metrics.metric import metric_of
from onnx_merge.runtime.providers import CPU
from onnx_merge.tuning.checks import EQUIVALENCE
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at

Array = NDArray[Any]
LABELS = ""
"""Key of the labels among the inputs' names."""


@dataclass
class ModelSamples(SampleSets):
    """A model and its samples. Problems with them are found before compression begins.

    Raises
    ------
    InputError, UsageError: the files or shapes do not fit the model, or the model cannot be run. If the option
        ``unverified`` is set and no other option needs a run, a model that cannot be run is only mentioned in
        ``notes``.
    UnverifiedError: none of the model's outputs can be compared.
    """

    held_out: str = ""
    """A description of the samples on which the drop is measured."""
    split: dict[str, int] | None = None
    """The arguments of `onnx_merge.calibration.splits.held_rows`, if it split the samples."""

    def __post_init__(self) -> None:
        options, candidate = self.options, self.provider
        if options.provider == "auto":
            self.provider = CPU  # until there are samples to try both on
        self.sizes = self.given
        check_input_memory(self.model, self.given, options.memory_limit, ", or raise --memory-limit")
        self.fitting = MemoryFit(options.memory_limit, self.sizes)
        try:
            self._session = self._first_session(candidate)
            inputs = self._session.inputs
        except OnnxMergeError as error:
            if not self._allows_unverified:
                raise cannot_load(self.model, error, self._going_on) from error
            self.notes = self._continue_unverified(error)
            return
        self.optimisation = self._session.optimisation
        if self.optimisation != "all":
            self.notes += (f"onnxruntime loads the model with {self.optimisation} optimisations only",)
        resolve_shapes(inputs, None, self.given)
        if not options.has_samples and not options.labels:
            try:
                self.notes += self._find_sizes()
            except (InputError, UsageError) as error:
                if not self._allows_unverified:
                    raise
                self.notes += self._continue_unverified(error)
                return
        with contextlib.suppress(InputError):  # an input takes strings: only the user can give samples
            self.fitting = fit_to_memory(self.model, inputs, self.provider, self.sizes, options.memory_limit)
            self.notes += self.fitting.notes
        if options.has_samples:
            self._loaded = self._load(self._load_count)
            self.notes += self._loaded.notes
        if options.labels:
            wanted = metric_of(options.metric) if options.metric is not None else None
            self.samples = load_samples(options.labels, inputs, wanted is not None and not wanted.of_classes)
            self.source = f"labels {options.labels}"
        elif self._loaded:
            self.samples = Samples(self._loaded.feeds)
            self.source = f"calib {options.calib if options.calib_file else self._loaded.source}"
        if self.samples is not None:
            self.notes += self._find_sizes(self.samples)
        self.fitting = replace(self.fitting, unit=self._unit, only=self._only_batch)
        self._leave_out_copies()
        if self._loaded is None or not self._loaded.real:
            self.notes += tuple(
                f"the range of input {name} is unknown: integers in 0..1 were made up; give --calib"
                for name in unknown_ranges(self.model)
            )
        if options.labels and self.samples and self.samples.labels is None:
            raise UsageError(f"{options.labels} holds no labels: name them labels or y, or use --calib")
        try:
            self._check_verifiable()
        except (InputError, UnverifiedError) as error:
            if not self._allows_unverified:
                raise
            self.notes += self._continue_unverified(error)
            return
        self._hold_out()
        if candidate.on_device and not self.provider.on_device:
            self._take_faster(candidate, self.batch)
        if "_ranges" in vars(self):  # images were made, or read without mean and std
            self.notes += self._ranges.notes

    @property
    def _going_on(self) -> str:
        """The remedy where outputs cannot be compared."""
        return unverified_remedy(self._needing_outputs)

    def _leave_out_copies(self) -> None:
        """Leave out samples of the user that repeat earlier ones, so that none is held out that was fitted to, or
        counted twice. A labelled sample is one with its label."""
        found, loaded = self.samples, self._loaded
        if loaded is not None and loaded.real:
            self._loaded = self._distinct(loaded)
            self.notes += _note_of_copies(len(loaded), len(self._loaded), "samples")
            if found is not None and found.feeds is loaded.feeds:
                self.samples = Samples(self._loaded.feeds)
        if self.options.labels and found is not None and found.labels is not None:
            rows = self._first_of_each({**found.feeds, LABELS: found.labels})
            if len(rows) < len(found.labels):
                self.samples = Samples(samples_at(found.feeds, rows), found.labels[rows])
            self.notes += _note_of_copies(len(found.labels), len(rows), "labelled samples")

    def _check_verifiable(self) -> None:
        """Refuse a model whose result could not be verified; see `onnx_merge.equivalence.verifiable`."""
        assert self._session is not None

        def check(feeds: Mapping[str, Array], source: str) -> None:
            subset = evenly_spaced(feeds, EQUIVALENCE.tried_samples)
            assert self._session is not None
            together = self.fitting.together(subset)
            remedies = (fixing(self.model), self._going_on)
            check_verifiable(self._session, subset, source, self.assignments, together, *remedies)

        if self.samples is not None:
            check(self.samples.feeds, self.source)
            if self.options.labels and self._loaded is not None and self._loaded.real:
                check(self._loaded.feeds, f"calib {self._loaded.source}")
            return
        check(self._random(self._session, min(EQUIVALENCE.tried_samples, self.options.made_up_samples)), self.source)

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process, which creates the session itself.

        The calibration samples are left out: they are no longer needed then, and may come from a generator, which
        cannot be pickled.
        """
        return {**vars(self), "options": replace(self.options, calib=None), "_loaded": None, "_session": None}

    def _hold_out(self) -> None:
        """Split the samples, so that none is both measured on and fitted to."""
        options, loaded, count, seed = self.options, self._loaded, self.options.sample_count, self.options.seed
        unit = self.fitting.unit
        if self.samples is not None and self.samples.labels is not None and options.labels:
            self.held_out = "the labelled samples"
            if options.fits and loaded is not None and loaded.real:
                self._divide(apart_from(self.samples, loaded, unit, count, seed))
            elif options.fits and loaded is None and self._selects_by_drop:
                self._divide(divided_labels(self.samples, f"{options.labels}", unit, count, seed))
            return
        if loaded is not None and loaded.real:
            self.held_out = "the samples"
            if options.fits:
                self._divide(divided(loaded, unit, count, seed, half=self._selects_by_drop))
            return
        self.real = False
        if loaded is None and not self._selects_by_drop:
            return
        loaded = self._loaded = loaded or self._load(count)
        self.samples = Samples(
            self._load(count if self._selects_by_drop else options.made_up_samples, seed + HELD_OUT_SEED).feeds
        )
        self.held_out = f"the {sample_count(self.samples.feeds):,} made-up samples that were held out"
        self.source = f"calib {loaded.source}"

    def _divide(self, found: Division) -> None:
        if not found.in_sample and not (self.options.labels and self.options.has_samples):
            held = sample_count(found.measured.feeds)
            self.split = {"total": found.total or len(found.fitted) + held, "held": held, "seed": self.options.seed}
        self._loaded, self.samples = found.fitted, found.measured
        self.held_out, self.in_sample = found.what, found.in_sample


def _note_of_copies(total: int, left: int, what: str) -> tuple[str, ...]:
    return (f"{total - left:,} of {total:,} {what} repeat earlier ones exactly and were left out",) * (left < total)
