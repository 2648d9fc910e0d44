"""Compares the outputs before and after on one set of samples: labelled or unlabelled ones of the user, or random."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from onnx_merge.calibration.model_samples import ModelSamples
from onnx_merge.calibration.splits import evenly_spaced
from onnx_merge.equivalence.verifiable import unverified_remedy
from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UnverifiedError, UsageError
from onnx_merge.evaluation.fidelity import Accuracy, accuracy, fidelity
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.inputs.user_arrays import check_labels
from onnx_merge.io.hashes import sha256_of_arrays
from onnx_merge.metrics.measure import Measure, Measured, check_measured
from onnx_merge.metrics.metric import metric_of
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.evaluation import CLASS_CHANGES
from passes.analysis.integer_outputs import IntegerOutputs, integer_outputs

Array = NDArray[Any]


@dataclass
class Comparison(ModelSamples):
    """A model and the samples on which results are compared with it. Raises the same errors as `ModelSamples`."""

    before: float | None = None
    """Accuracy of the model in percent, if there are labels."""
    measure: Measure | None = field(default=None, init=False)
    """The requested metric, evaluated on the samples."""
    compared_sha256: str | None = None
    """Hash of the samples on which outputs were compared."""
    fitted: int | None = None
    """Number of samples that layers were fitted to, mirror images included; None if no samples were used."""

    def __post_init__(self) -> None:
        check_measured(self.options)
        super().__post_init__()
        options = self.options
        if self._session is None:
            return
        if self.samples and self.samples.labels is not None and options.labels:
            # With a metric, labels need not be classes.
            with contextlib.suppress(*(() if options.metric is None else (InputError, UsageError))):
                self.before = self._accuracy(self._session, self.samples.feeds, self.samples.labels)
        if options.metric is not None and self.samples is not None:
            batch = self.fitting.together(self.samples.feeds)
            self.measure = Measure(metric_of(options.metric), self.samples, self._session, batch)

    def on_all(self, result: Session) -> Fidelity:
        """Return the fidelity of ``result`` on all samples."""
        assert self.session is not None and self.samples is not None
        return self._fidelity(self.session, result, self.samples.feeds)

    def of_itself(self) -> Fidelity:
        """The fidelity of the model to itself on a few samples, which shows what its outputs hold."""
        assert self.session is not None and self.samples is not None
        subset = evenly_spaced(self.samples.feeds, CLASS_CHANGES.deciding_samples)
        return self._fidelity(self.session, self.session, subset)

    def fidelity(self, result: Session) -> tuple[Fidelity | None, tuple[str, ...]]:
        """Return the fidelity of ``result``, on samples that no layer was fitted to if there are any, and notes.

        At most `Options.compared_samples` samples are used. None, with a note that says why, if outputs cannot be
        compared and ``unverified`` is set.

        Raises
        ------
        StructureError: the result is not finite where the original is.
        UnverifiedError: outputs cannot be compared.
        """
        if self.session is None:
            return None, ()
        try:
            feeds = self.feeds_compared()
            self.compared_sha256 = sha256_of_arrays(feeds)
            return self._with_notes(self._fidelity(self.session, result, feeds))
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
    def scored_sha256(self) -> str | None:
        """Hash of all samples and their labels."""
        if self.samples is None:
            return None
        labels = {} if self.samples.labels is None else {"\0labels": self.samples.labels}
        return sha256_of_arrays({**self.samples.feeds, **labels})

    @cached_property
    def _integers(self) -> IntegerOutputs:
        return integer_outputs(self.model)

    def accuracy(self, result: Session) -> Accuracy | None:
        """Return the accuracy before and after, if there are labels."""
        if self.before is None or self.samples is None or self.samples.labels is None:
            return None
        after = self._accuracy(result, self.samples.feeds, self.samples.labels)
        return Accuracy(self.before, after, len(self.samples.labels))

    def metric(self, result: object, session: Session) -> Measured | None:
        """Return the metric before and after, if one was requested.

        ``session``: the loaded model of ``result``. Values known for ``result`` are not measured again.
        """
        if self.measure is None or self.session is None:
            return None
        return self.measure.measured(result, session, self.session)

    def _accuracy(self, model: Session, feeds: Mapping[str, Array], labels: Array) -> float:
        labels = check_labels(labels, len(labels), f"{self.options.labels}")
        return accuracy(model, feeds, labels, self.provider, batch=self.fitting.together(feeds))

    def _fidelity(self, before: Session, after: Session, feeds: Mapping[str, Array]) -> Fidelity:
        return fidelity(
            before,
            after,
            feeds,
            self.provider,
            source=self.source,
            batch=self.fitting.together(feeds),
            fitted=self.fitted,
            real=self.real,
            in_sample=self.in_sample and bool(self.fitted),
            integers=self._integers,
        )
