"""Compares results with the original on one set of samples: the user's, labelled or not, or made-up ones."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.model_samples import ModelSamples
from onnx_merge.calibration.prepared_samples import prepared_samples
from onnx_merge.calibration.splits import evenly_spaced
from onnx_merge.config.options import Options
from onnx_merge.equivalence.verifiable import unverified_remedy
from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UnverifiedError, UsageError
from onnx_merge.evaluation.fidelity import Accuracy, accuracy, fidelity
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.inputs.user_arrays import check_labels
from onnx_merge.io.hashes import sha256_of_arrays
from onnx_merge.metrics.measure import Measure, Measured, check_measured
from onnx_merge.metrics.metric import metric_of
from onnx_merge.original.opened_model import OpenedModel, open_model
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.evaluation import CLASS_CHANGES
from passes.analysis.integer_outputs import IntegerOutputs, integer_outputs

Array = NDArray[Any]


@dataclass(eq=False)
class Comparison:
    """Compares results with the original of ``samples``, on these.

    Raises
    ------
    InputError, UsageError: the labels or the metric do not fit the model.
    """

    samples: ModelSamples
    options: Options
    before: float | None = field(default=None, init=False)
    """Accuracy of the original in percent, if there are labels."""
    measure: Measure | None = field(default=None, init=False)
    """The requested metric, evaluated on the samples."""

    def __post_init__(self) -> None:
        session, measured, options = self.original.session, self.samples.measured, self.options
        if session is None or measured is None:
            return
        if measured.labels is not None and options.labels:
            # With a metric, labels need not be classes.
            with contextlib.suppress(*(() if options.metric is None else (InputError, UsageError))):
                self.before = self._accuracy(session, measured.feeds, measured.labels)
        if options.metric is not None:
            batch = self.original.memory.together(measured.feeds)
            self.measure = Measure(metric_of(options.metric), measured, session, batch)

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process. Samples may come from a generator, which cannot be sent."""
        return {**vars(self), "options": replace(self.options, calib=None)}

    @property
    def original(self) -> OpenedModel:
        """The model that results are compared with."""
        return self.samples.original

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the original and the samples."""
        return (*self.original.notes, *self.samples.notes)

    def with_options(self, options: Options) -> Comparison:
        """A copy with other options and the same samples."""
        other = copy.copy(self)
        other.options = options
        return other

    def on_all(self, result: Session) -> Fidelity:
        """Return the fidelity of ``result`` on all samples."""
        assert self.original.session is not None and self.samples.measured is not None
        return self._fidelity(self.original.session, result, self.samples.measured.feeds)

    def of_itself(self) -> Fidelity:
        """The fidelity of the model to itself on a few samples, which shows what its outputs hold."""
        assert self.original.session is not None and self.samples.measured is not None
        subset = evenly_spaced(self.samples.measured.feeds, CLASS_CHANGES.deciding_samples)
        return self._fidelity(self.original.session, self.original.session, subset)

    def fidelity(self, result: Session, fitted: int | None = None) -> tuple[Fidelity | None, tuple[str, ...]]:
        """Return the fidelity of ``result``, on samples that no layer was fitted to if there are any, and notes.

        ``fitted``: number of samples that layers were fitted to, mirror images included; None if no samples were used.
        At most `Options.compared_samples` samples serve. None, with a note that says why, if outputs cannot be compared
        and ``unverified`` is set.

        Raises
        ------
        StructureError: the result is not finite where the original is.
        UnverifiedError: outputs cannot be compared.
        """
        if self.original.session is None:
            return None, ()
        try:
            feeds = self.samples.compared()
            return self._with_notes(self._fidelity(self.original.session, result, feeds, fitted))
        except (StructureError, UsageError):
            raise
        except OnnxMergeError as error:
            return None, self._uncompared(error)

    def _with_notes(self, close: Fidelity) -> tuple[Fidelity, tuple[str, ...]]:
        """``close``, with a note on outputs that were not compared."""
        left = sorted(self._integers.ordered - {output.name for output in close.outputs})
        return close, (f"not compared, since scores decide their order: {', '.join(left)}",) if left else ()

    def _uncompared(self, problem: OnnxMergeError) -> tuple[str, ...]:
        if not self.options.unverified or self.options.has_gate:
            remedy = unverified_remedy(self.options.limits)
            raise UnverifiedError(f"outputs could not be compared: {problem}; {remedy}") from problem
        return (f"outputs were not compared: {problem}",)

    @cached_property
    def compared_sha256(self) -> str:
        """Hash of the samples on which outputs are compared. The model must run."""
        return sha256_of_arrays(self.samples.compared())

    @cached_property
    def scored_sha256(self) -> str | None:
        """Hash of all samples that are measured on, and their labels."""
        measured = self.samples.measured
        if measured is None:
            return None
        labels = {} if measured.labels is None else {"\0labels": measured.labels}
        return sha256_of_arrays({**measured.feeds, **labels})

    @cached_property
    def _integers(self) -> IntegerOutputs:
        return integer_outputs(self.original.model)

    def accuracy(self, result: Session) -> Accuracy | None:
        """Return the accuracy before and after, if there are labels."""
        measured = self.samples.measured
        if self.before is None or measured is None or measured.labels is None:
            return None
        after = self._accuracy(result, measured.feeds, measured.labels)
        return Accuracy(self.before, after, len(measured.labels))

    def metric(self, result: object, session: Session) -> Measured | None:
        """Return the metric before and after, if one was requested.

        ``session``: the loaded model of ``result``. Values known for ``result`` are not measured again.
        """
        if self.measure is None or self.original.session is None:
            return None
        return self.measure.measured(result, session, self.original.session)

    def _accuracy(self, model: Session, feeds: Mapping[str, Array], labels: Array) -> float:
        labels = check_labels(labels, len(labels), f"{self.options.labels}")
        original = self.original
        return accuracy(model, feeds, labels, original.provider, batch=original.memory.together(feeds))

    def _fidelity(
        self, before: Session, after: Session, feeds: Mapping[str, Array], fitted: int | None = None
    ) -> Fidelity:
        return fidelity(
            before,
            after,
            feeds,
            self.original.provider,
            source=self.samples.source,
            batch=self.original.memory.together(feeds),
            fitted=fitted,
            fitted_made_up=self.options.fits_made_up,
            real=self.samples.real,
            in_sample=self.samples.in_sample and bool(fitted),
            integers=self._integers,
        )


def comparison_with(model: onnx.ModelProto, options: Options, provider: ProviderChoice) -> Comparison:
    """The comparison of results with ``model`` that ``options`` ask for.

    Raises
    ------
    InputError, UsageError, UnverifiedError: see `open_model`, `prepared_samples` and `Comparison`.
    """
    check_measured(options)
    return Comparison(prepared_samples(open_model(model, options, provider), provider), options)
