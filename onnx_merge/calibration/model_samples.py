"""The samples that a model is fitted to and compared on: loaded, split and checked before compression begins."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.division import Division, apart_from, divided, divided_labels
from onnx_merge.calibration.input_ranges import InputRanges, found_ranges, given_ranges
from onnx_merge.calibration.load import Calibration, load_calibration
from onnx_merge.calibration.more_samples import more_synthetic_samples, more_user_samples
from onnx_merge.calibration.splits import MEASURED, evenly_spaced, found_in, parted, to_load
from onnx_merge.calibration.synthetic import has_images
from onnx_merge.config.options import Options
from onnx_merge.equivalence.verifiable import cannot_load, check_verifiable
from onnx_merge.errors import InputError, OnnxMergeError, UnverifiedError, UsageError
from onnx_merge.inputs.assignments import Assignments, find_assignments, require, sample_sizes
from onnx_merge.inputs.feeds import Sizes, index_bounds, random_feeds, resolve_shapes, rows_of
from onnx_merge.inputs.input_memory import check_input_memory
from onnx_merge.inputs.integer_inputs import unknown_ranges
from onnx_merge.inputs.memory_fit import MemoryFit, fit_to_memory
from onnx_merge.inputs.random_samples import fewer_large, random_samples
from onnx_merge.inputs.user_arrays import Samples, load_samples
from onnx_merge.io.scratch_space import scratch_space
from onnx_merge.metrics.metric import metric_of
from onnx_merge.runtime.batching import batches
from onnx_merge.runtime.devices.faster_provider import faster_provider
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Optimisation, Session, loaded
from onnx_merge.tuning.calibration import SPLITS
from onnx_merge.tuning.checks import EQUIVALENCE
from onnx_merge.tuning.runtime import DEVICE
from passes.numerics.arrays import has_rows
from passes.samples.sample_need import MoreSamples

Array = NDArray[Any]


@dataclass
class ModelSamples:
    """A model and its samples. Problems with them are found before compression begins.

    Raises
    ------
    InputError, UsageError: the files or shapes do not fit the model, or the model cannot be run. If the option
        ``unverified`` is set and no other option needs a run, a model that cannot be run is only mentioned in
        ``notes``.
    UnverifiedError: none of the model's outputs can be compared.
    """

    model: onnx.ModelProto
    options: Options
    provider: ProviderChoice
    notes: tuple[str, ...] = field(default=(), init=False)
    """What a user should know of how they were found."""
    optimisation: Optimisation = field(default="all", init=False)
    """The level at which onnxruntime optimises the model. It is lowered if onnxruntime's optimisations break the
    model."""
    runs: bool = field(default=True, init=False)
    """Whether the model can be run."""
    samples: Samples | None = None
    """The samples that outputs are compared on; None if random samples are used."""
    source: str = "random"
    assignments: Assignments = field(default=Assignments(()), init=False)
    """Input sizes at which the model runs. If there are none, ``problem`` says why."""
    sizes: Sizes = field(default_factory=dict, init=False)
    """Sizes at which samples are made: those that the user gave, or shapes of all inputs if the model does not run at
    the default sizes."""
    held_out: str = ""
    """A description of the samples on which the drop is measured."""
    split: dict[str, int] | None = None
    """The arguments of `onnx_merge.calibration.splits.held_rows`, if it split the samples."""
    in_sample: bool = False
    """Whether the samples measured on are also fitted to, because there were too few to split."""
    real: bool = True
    """Whether the samples measured on are the user's, not synthetic."""
    fitting: MemoryFit = field(init=False)
    """The memory that a sample takes, and the sizes chosen for dynamic dimensions that the user left open."""
    _loaded: Calibration | None = field(default=None, init=False, repr=False)
    _session: Session | None = field(default=None, init=False, repr=False)

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
                raise cannot_load(self.model, error) from error
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
        self.fitting = replace(self.fitting, unit=self._unit)
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
            self._take_faster(candidate)
        if "_ranges" in vars(self):  # images were made, or read without mean and std
            self.notes += self._ranges.notes

    def _first_session(self, candidate: ProviderChoice) -> Session:
        """A session to look for sizes and samples with: on the CPU, or on ``candidate`` for models that run only
        there."""
        try:
            return loaded(self.model, self.provider)
        except OnnxMergeError:
            if self.provider.on_device or not candidate.on_device:
                raise
            with contextlib.suppress(OnnxMergeError):
                found = loaded(self.model, candidate)
                self.provider = candidate
                where = f"{candidate.name.upper()} ({candidate.reason})"
                self.notes += (f"runs on {where}: onnxruntime cannot load it for the CPU",)
                return found
            raise

    def _take_faster(self, candidate: ProviderChoice) -> None:
        """Run on ``candidate`` from here on, if a run of the tool is faster there."""
        assert self._session is not None
        try:
            some = self.batch(DEVICE.timed_samples)
            feeds, size, _ = next(batches(some, self._session.inputs, self.fitting.together(some)))
            self._session = None  # the weights of a large model are not in memory three times
            self.provider, note = faster_provider(self.model, feeds, size, candidate, self.optimisation)
        except OnnxMergeError as error:
            note = f"runs on the CPU: a batch could not be timed on both providers: {error}"
        self.notes += (note,)
        self._session = self._session or self.load(self.model)

    @property
    def _allows_unverified(self) -> bool:
        """Whether a model that does not run may be compressed all the same, because no option needs a run."""
        options = self.options
        return options.unverified and not (options.labels or options.has_samples or options.has_gate)

    def _continue_unverified(self, error: OnnxMergeError) -> tuple[str, ...]:
        """Continue without running the model. Returns a note."""
        self._session, self.runs, self.real = None, False, False
        self.assignments = Assignments((), error.message)
        return (f"outputs were not compared: {error}",)

    def _check_verifiable(self) -> None:
        """Refuse a model whose result could not be verified; see `onnx_merge.equivalence.verifiable`."""
        assert self._session is not None

        def check(feeds: Mapping[str, Array], source: str) -> None:
            subset = evenly_spaced(feeds, EQUIVALENCE.tried_samples)
            assert self._session is not None
            check_verifiable(self._session, subset, source, self.assignments, self.fitting.together(subset))

        if self.samples is not None:
            check(self.samples.feeds, self.source)
            if self.options.labels and self._loaded is not None and self._loaded.real:
                check(self._loaded.feeds, f"calib {self._loaded.source}")
            return
        try:
            check(self._random(self._session, min(EQUIVALENCE.tried_samples, self.options.made)), self.source)
        except InputError:  # the batch may be declared dynamic although the model accepts one size only
            check(self._random(self._session, self._batch), self.source)

    def _find_sizes(self, samples: Samples | None = None) -> tuple[str, ...]:
        """Find sizes at which the model runs and samples can be made. Returns notes."""
        assert self._session is not None
        known = [{n: (2, *a.shape[1:]) if a.ndim else () for n, a in samples.feeds.items()}] if samples else []
        given, seed = self.given, self.options.seed
        try:
            found = find_assignments(self._session, model=self.model, sizes=given, known=known, seed=seed)
        except InputError as error:  # inputs that cannot be generated
            if samples is None:
                raise
            self.assignments = Assignments((), error.message)
            return ()
        self.assignments = found
        if samples is not None:
            return ()
        require(found, self._session.inputs, given)
        self.sizes, note = sample_sizes(self._session, found, self.model, given, seed)
        return (note,) if note else ()

    @property
    def session(self) -> Session | None:
        """The session of the model, created on first use; None if the model cannot be run."""
        if self._session is None and self.runs:
            self._session = self.load(self.model)
        return self._session

    def load(self, model: onnx.ModelProto) -> Session:
        """A session of ``model``, the original or a result, at the optimisation level of the original.

        Raises
        ------
        OnnxMergeError: onnxruntime cannot load it.
        """
        return Session(model, self.provider, optimisation=self.optimisation)

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process, which creates the session itself.

        The calibration samples are left out: they are no longer needed then, and may come from a generator, which
        cannot be pickled.
        """
        return {**vars(self), "options": replace(self.options, calib=None), "_loaded": None, "_session": None}

    def with_options(self, options: Options) -> Self:
        """A copy with other options and the same samples."""
        other = copy.copy(self)
        other.options = options
        return other

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
        self.samples = Samples(self._load(count if self._selects_by_drop else options.made, seed + MEASURED).feeds)
        self.held_out = f"the {rows_of(self.samples.feeds):,} made-up samples that were held out"
        self.source = f"calib {loaded.source}"

    def _divide(self, found: Division) -> None:
        if not found.in_sample and not (self.options.labels and self.options.has_samples):
            held = rows_of(found.measured.feeds)
            self.split = {"total": len(found.fitted) + held, "held": held, "seed": self.options.seed}
        self._loaded, self.samples = found.fitted, found.measured
        self.held_out, self.in_sample = found.what, found.in_sample

    @property
    def _selects_by_drop(self) -> bool:
        """Whether the measurement decides which result is chosen."""
        return self.options.max_drop is not None

    @property
    def _load_count(self) -> int:
        """The number of samples to load, including those to hold out."""
        options = self.options
        if isinstance(options.calib, str) and options.calib == "synthetic":
            return options.sample_count
        if not options.fits:
            promise = options.confidence is not None and not options.labels
            return SPLITS.guaranteed if promise else max(options.sample_count, options.checked)
        half = self._selects_by_drop and not options.labels
        return to_load(options.sample_count, half=half, promise=half and options.confidence is not None)

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
        more = self._load(count if self.options.labels else count + rows_of(held))
        feeds, _ = parted(more.feeds, np.flatnonzero(found_in(more.feeds, held)))
        return replace(more, feeds=feeds).take(count)

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

    def release(self) -> None:
        """Free the calibration samples once they are no longer needed. Samples that outputs are compared on are
        kept."""
        self._loaded = None

    @property
    def given(self) -> dict[str, tuple[int, ...]]:
        """The input shapes that the user gave, by input name."""
        return dict(self.options.input_shape)

    def compared_feeds(self, samples: Samples) -> dict[str, Array]:
        """The subset of ``samples`` that outputs are compared on, (N, ...) by input name."""
        return evenly_spaced(samples.feeds, self.options.checked if self.real else self.options.made)

    def feeds_compared(self) -> dict[str, Array]:
        """The samples (N, ...) on which outputs are compared, the user's or synthetic ones. The model must run."""
        if self.samples is not None:
            return self.compared_feeds(self.samples)
        assert self.session is not None
        return self._random(self.session, self.options.made)

    @property
    def _batch(self) -> int:
        """The smallest batch at which the model ran."""
        inputs = self._session.inputs if self._session else ()
        return min((a[i.name][0] for a in self.assignments.found for i in inputs if i.shape), default=1)

    @property
    def _unit(self) -> int:
        """The number that every batch size must be a multiple of: the greatest common divisor of the batches at which
        the model ran."""
        inputs = self._session.inputs if self._session else ()
        tried = self.assignments.found or [{i.name: i.shape for i in inputs}]
        found = (a[i.name][0] for a in tried for i in inputs if i.shape)
        return max(1, math.gcd(*(n for n in found if isinstance(n, int))))

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
        return {
            name: array[np.arange(size) % len(array)] if has_rows(array) else array for name, array in feeds.items()
        }

    def _random(self, session: Session, count: int) -> dict[str, Array]:
        """``count`` synthetic samples to measure on, images if the model takes images. Their seed differs from that of
        the samples fitted to."""
        seed, sizes = self.options.seed + MEASURED, self.fitting.sizes
        count = fewer_large(session.inputs, count, self.fitting.inputs, sizes, index_bounds(self.model))
        if has_images(session.inputs, sizes) and len({i.shape[0] if i.shape else None for i in session.inputs}) == 1:
            return self._load(count, seed, "synthetic").feeds  # also where the user wants none to calibrate on
        return random_samples(session.inputs, count, seed, sizes, index_bounds(self.model))
