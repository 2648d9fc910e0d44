"""Converts results to the number format of ``--then``, and compares compression and conversion alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.io.sample_axis import SampleAxis
from onnx_merge.latency.measure import Latencies
from onnx_merge.report.result import FormatResult
from onnx_merge.runtime.batching import ANY, BatchSize
from onnx_merge.runtime.number_formats import INT8, convert
from onnx_merge.runtime.tensor_info import TensorInfo
from passes.cost.cost import model_bytes

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Converter:
    """Converts models with the inputs of the original. ``feeds``: samples (N, ...) that set the scales; empty if the
    format needs none."""

    number_format: str
    feeds: Mapping[str, Array] = field(default_factory=dict)
    inputs: tuple[TensorInfo, ...] = ()
    batch: BatchSize = ANY
    axis: SampleAxis | None = None
    """The axis of samples that the models were given; they are converted without it."""

    def __call__(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the converted model; see `onnx_merge.runtime.number_formats.convert`."""
        written = model if self.axis is None else self.axis.removed(model)
        one = self.axis is not None
        made = convert(written, self.number_format, self.feeds, self.inputs, self.batch, without_axis=one)
        return made if self.axis is None else self.axis.added(made)


def converter(comparison: Comparison, axis: SampleAxis | None = None) -> Converter | None:
    """Return the converter that the options ask for. Its samples are those that layers are fitted to: none is held out.
    ``axis``: see `Converter`.

    Raises
    ------
    UsageError: the format needs samples and there are none.
    """
    wanted = comparison.options.then
    if wanted is None or wanted != INT8:
        return None if wanted is None else Converter(wanted, axis=axis)
    calibration = comparison.samples.fitted()
    if calibration is None or not len(calibration) or comparison.original.session is None:
        raise UsageError("then int8 sets scales on samples and there are none: give calib, or take int8-dynamic")
    batch = comparison.original.memory.together(calibration.feeds)
    return Converter(wanted, calibration.feeds, comparison.original.inputs, batch, axis)


@dataclass(frozen=True, eq=False)
class Compared:
    """A model that the report compares with the original."""

    name: str
    model: onnx.ModelProto
    fidelity: Fidelity | None = None
    accuracy: Accuracy | None = None

    def row(self, timed: Mapping[int, float]) -> FormatResult:
        """Return the row of the report. ``timed``: batch size -> milliseconds."""
        close, accuracy = self.fidelity, self.accuracy.after if self.accuracy else None
        nsr, changed = (close.nsr, close.changed) if close else (None, None)
        latency = {str(batch): ms for batch, ms in timed.items()}
        return FormatResult(self.name, model_bytes(self.model), nsr, changed, accuracy, latency)


def each_alone(
    comparison: Comparison, compressed: onnx.ModelProto, conversion: Converter
) -> tuple[list[Compared], tuple[str, ...]]:
    """Return the compressed model without conversion, and the original with it. Notes say why one is left out."""
    found, notes = list[Compared](), list[str]()
    for name, model, convert_it in (
        ("compressed", compressed, False),
        (conversion.number_format, comparison.original.model, True),
    ):
        try:
            made = conversion(model) if convert_it else model
            session = comparison.original.load(made)
            found.append(Compared(name, made, comparison.fidelity(session)[0], comparison.accuracy(session)))
        except OnnxMergeError as error:
            notes.append(f"{name} alone was not compared: {error}")
    return found, tuple(notes)


def rows(
    comparison: Comparison, result: Compared, alone: list[Compared], timed: tuple[Latencies, ...]
) -> tuple[FormatResult, ...]:
    """Return the rows of the report: the original, each step alone, and the result.

    ``timed``: by batch size, of the original, the result, and those of ``alone``.
    """
    before = comparison.before
    accuracy = None if before is None else Accuracy(before, before, 0)
    models = [Compared("original", comparison.original.model, accuracy=accuracy), result, *alone]
    found = [model.row({t.batch: t.models[k].median_ms for t in timed}) for k, model in enumerate(models)]
    original, both, *others = found
    return (original, *others, replace(both, name=" + ".join(other.name for other in others) or both.name))
