"""Loads, checks and splits the samples of a model before compression begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from onnx_merge.calibration.division import Division, apart_from, divided, divided_labels
from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.model_samples import ModelSamples
from onnx_merge.calibration.sample_loader import SampleLoader
from onnx_merge.calibration.splits import HELD_OUT_SEED, evenly_spaced
from onnx_merge.equivalence.verifiable import check_verifiable
from onnx_merge.errors import InputError, UnverifiedError, UsageError
from onnx_merge.inputs.integer_inputs import unknown_ranges
from onnx_merge.inputs.size_inputs import fixing
from onnx_merge.inputs.user_arrays import Samples, load_samples
from onnx_merge.metrics.metric import metric_of
from onnx_merge.original.opened_model import OpenedModel
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.tuning.checks import EQUIVALENCE
from passes.analysis.mask_inputs import masks_of_left_out
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at

Array = NDArray[Any]
LABELS_KEY = ""
"""Key of the labels among the inputs' names."""


def prepared_samples(original: OpenedModel, candidate: ProviderChoice) -> ModelSamples:
    """The samples that results are measured on and layers are fitted to. From here on, ``original`` runs on
    ``candidate``, if that is faster.

    Raises
    ------
    InputError, UsageError: the files do not fit the model, or it does not run on them.
    UnverifiedError: none of the model's outputs can be compared. With the option ``unverified``, unless another option
        needs a run, this is only mentioned in the notes of ``original``.
    """
    options, loader = original.options, SampleLoader(original)
    if original.session is None:
        return ModelSamples(loader)
    loaded = loader.load_all() if options.has_samples else None
    notes = loaded.notes if loaded else ()
    labelled = _labelled(original) if options.labels else None
    if labelled is not None:
        original.find_sizes(labelled)
    elif loaded:
        original.find_sizes(Samples(loaded.feeds))
    original.notes += original.memory.notes
    original.find_batches()
    if loaded is not None and loaded.real:
        total = len(loaded)
        loaded = loader.without_copies(loaded)
        notes += _note_of_copies(total, len(loaded), "samples")
    else:
        say = "the range of input {} is unknown: integers in 0..1 were made up; give --calib"
        notes += tuple(map(say.format, unknown_ranges(original.model)))
        say = "ones of the mask {} leave places out: zeros were made up, which leave out none"
        notes += tuple(map(say.format, masks_of_left_out(original.model)))
    if labelled is not None:
        if labelled.labels is None:
            raise UsageError(f"{options.labels} holds no labels: name them labels or y, or use --calib")
        labelled, copies = _without_copies(labelled, loader)
        notes += copies
    try:
        _check_verifiable(loader, labelled, loaded)
    except (InputError, UnverifiedError) as error:
        if not original.allows_unverified:
            raise
        original.continue_unverified(error)
        return ModelSamples(loader, notes=notes)
    found = _split(loader, labelled, loaded)
    if candidate.on_device and not original.provider.on_device:
        original.take_faster(candidate, found.batch)
    found.notes = (*notes, *loader.range_notes)
    return found


def _labelled(original: OpenedModel) -> Samples:
    """The samples of the option ``labels``."""
    options = original.options
    assert options.labels is not None  # asked for only then
    wanted = metric_of(options.metric) if options.metric is not None else None
    return load_samples(options.labels, original.inputs, wanted is not None and not wanted.of_classes)


def _without_copies(labelled: Samples, loader: SampleLoader) -> tuple[Samples, tuple[str, ...]]:
    """The labelled samples without those that repeat earlier ones with their labels, and a note, so that none is
    counted twice, or held out that was fitted to."""
    assert labelled.labels is not None  # refused before
    rows, total = loader.first_of_each({**labelled.feeds, LABELS_KEY: labelled.labels}), len(labelled.labels)
    if len(rows) < total:
        labelled = Samples(samples_at(labelled.feeds, rows), labelled.labels[rows])
    return labelled, _note_of_copies(total, len(rows), "labelled samples")


def _note_of_copies(total: int, left: int, what: str) -> tuple[str, ...]:
    return (f"{total - left:,} of {total:,} {what} repeat earlier ones exactly and were left out",) * (left < total)


def _check_verifiable(loader: SampleLoader, labelled: Samples | None, loaded: Calibration | None) -> None:
    """Refuse a model whose result could not be verified; see `onnx_merge.equivalence.verifiable`."""
    original, options = loader.original, loader.original.options

    def check(feeds: Mapping[str, Array], source: str) -> None:
        subset, remedies = evenly_spaced(feeds, EQUIVALENCE.tried_samples), (fixing(original.model), original.going_on)
        assert original.session is not None  # only models that run have samples
        together = original.memory.together(subset)
        check_verifiable(original.session, subset, source, original.assignments, together, *remedies)

    if labelled is not None:
        check(labelled.feeds, f"labels {options.labels}")
        if loaded is not None and loaded.real:
            check(loaded.feeds, f"calib {loaded.source}")
    elif loaded:
        check(loaded.feeds, _source_of(loaded, loader))
    else:
        check(loader.random(min(EQUIVALENCE.tried_samples, options.made_up_samples)), "random")


def _source_of(loaded: Calibration, loader: SampleLoader) -> str:
    options = loader.original.options
    return f"calib {options.calib if options.calib_file else loaded.source}"


def _split(loader: SampleLoader, labelled: Samples | None, loaded: Calibration | None) -> ModelSamples:
    """The samples ``labelled`` or ``loaded``, so split that none is both measured on and fitted to; or made-up ones."""
    options, unit = loader.original.options, loader.original.memory.unit
    count, seed = options.sample_count, options.seed
    if labelled is not None:
        found = ModelSamples(loader, labelled, f"labels {options.labels}", "the labelled samples", True, loaded=loaded)
        if options.fits and loaded is not None and loaded.real:
            return _divided(found, apart_from(labelled, loaded, unit, count, seed))
        if options.fits and loaded is None and options.selects_by_drop:
            return _divided(found, divided_labels(labelled, f"{options.labels}", unit, count, seed))
        return found
    if loaded is not None and loaded.real:
        source = _source_of(loaded, loader)
        found = ModelSamples(loader, Samples(loaded.feeds), source, "the samples", True, loaded=loaded)
        if options.fits:
            return _divided(found, divided(loaded, unit, count, seed, half=options.selects_by_drop))
        return found
    if loaded is None and not options.selects_by_drop:
        return ModelSamples(loader)
    loaded = loaded or loader.load(count)
    measured = loader.load(count if options.selects_by_drop else options.made_up_samples, seed + HELD_OUT_SEED).feeds
    what = f"the {sample_count(measured):,} made-up samples that were held out"
    return ModelSamples(loader, Samples(measured), f"calib {loaded.source}", what, loaded=loaded)


def _divided(samples: ModelSamples, found: Division) -> ModelSamples:
    """``samples`` as they were divided."""
    options, split = samples.original.options, None
    if not found.in_sample and not (options.labels and options.has_samples):
        held = sample_count(found.measured.feeds)
        split = {"total": found.total or len(found.fitted) + held, "held": held, "seed": options.seed}
    fitted, measured, what = found.fitted, found.measured, found.what
    return replace(samples, loaded=fitted, measured=measured, description=what, in_sample=found.in_sample, split=split)
