"""Measure a metric on the evaluation samples, once for the original and once for each result."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from onnx_merge.config.options import Options
from onnx_merge.errors import FidelityError, UsageError
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.metrics.metric import Metric
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.runtime.batching import BatchSize
from onnx_merge.runtime.session import Session
from passes.numerics.arrays import sample_count


@dataclass(frozen=True, slots=True)
class Measured:
    """The value of the user's metric for the original and for the result; higher is better."""

    name: str
    """The name of a built-in metric, ``file.py:function``, or the name of a function."""
    before: float
    after: float
    samples: int


class Measure:
    """A metric, the samples, and the metric's value for the ``original``.

    Raises
    ------
    OnnxMergeError: see `onnx_merge.metrics.metric.Metric`.
    """

    def __init__(self, metric: Metric, samples: Samples, original: Session, batch: BatchSize) -> None:
        self.metric, self.samples, self._batch = metric, samples, batch
        self._known: list[tuple[weakref.ref[Any], float]] = []
        self.before = metric(Predictor(original, batch), samples.feeds, samples.labels)

    def value(self, result: object, session: Session, original: Session) -> float:
        """The value for ``result``, whose model is loaded in ``session``. It is cached."""
        known = next((value for at, value in self._known if at() is result), None)
        if known is not None:
            return known
        predict = Predictor(session, self._batch, Predictor(original, self._batch))
        value = self.metric(predict, self.samples.feeds, self.samples.labels)
        self._known = [(at, v) for at, v in self._known if at() is not None] + [(weakref.ref(result), value)]
        return value

    def measured(self, result: object, session: Session, original: Session) -> Measured:
        """The values for the original and for ``result``, for the report."""
        after = self.value(result, session, original)
        return Measured(self.metric.name, self.before, after, sample_count(self.samples.feeds))

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_known": []}


def check_measured(options: Options) -> None:
    """Refuse a metric if there are no samples to measure it on.

    Raises
    ------
    UsageError: there are no samples.
    """
    if options.metric is not None and not options.labels and not options.has_samples:
        raise UsageError("metric is measured on samples: give --labels or --calib")


def metric_gate(found: Measured | None, options: Options) -> FidelityError | None:
    """The error that the run ends with if the result is below the option ``min_metric``; else None."""
    least = options.min_metric
    if least is None or found is None or found.after >= least:
        return None
    return FidelityError(f"{found.name} is {found.after:.6g}, below --min-metric {least:g}")


def together(*failures: FidelityError | None) -> FidelityError | None:
    """Several errors combined into one; None if there is none."""
    missed = [failure.message for failure in failures if failure is not None]
    return FidelityError(" and ".join(missed)) if missed else None
