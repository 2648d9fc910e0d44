"""Measures how close the outputs of the result are to the original's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.equivalence.structure import is_float
from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UsageError
from onnx_merge.evaluation.output_meter import OutputMeter
from onnx_merge.evaluation.verdict import Fidelity, in_order
from onnx_merge.inputs.user_arrays import check_classes
from onnx_merge.metrics.builtin import holds_class_scores, score_matrix
from onnx_merge.runtime.batching import ANY, BatchSize, batches
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session, loaded
from passes.analysis.integer_outputs import IntegerOutputs
from passes.numerics.arrays import rows_between

NEIGHBOURS = 8
"""Rows that run together where an output of a single one is empty."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 accuracy in percent, on all labelled samples."""

    before: float
    after: float
    samples: int


def fidelity(
    original: onnx.ModelProto | Session,
    result: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    *,
    source: str = "samples",
    batch: BatchSize = ANY,
    fitted: int | None = None,
    fitted_made_up: bool = False,
    in_sample: bool = False,
    real: bool = True,
    integers: IntegerOutputs | None = None,
) -> Fidelity:
    """Compare the outputs of two models on ``feeds``, each (N, ...), in batches of bounded size.

    ``integers``: what integer outputs hold, classes by default. Rounded numbers are compared as numbers. Those in an
    order that scores decide are left out where float outputs are in it, too. Top-1 agreement is that of the only output
    with scores, (N, classes) or (N, classes, 1, 1). A model with several such outputs, or none, has no top-1.
    ``fitted``, ``fitted_made_up``, ``in_sample``, ``real``: see `Fidelity`.

    Raises
    ------
    StructureError: an output of the result is missing, or not finite where the original's is for every sample.
    InputError: there is nothing to compare.
    OnnxMergeError: a model cannot be loaded or run.
    """
    before = original if isinstance(original, Session) else loaded(original, provider)
    after = result if isinstance(result, Session) else Session(result, provider, optimisation=before.optimisation)
    integers = integers or IntegerOutputs()
    meters, samples, classes = _measured(before, after, feeds, batch, integers)
    if not meters:
        raise InputError("the model has no numeric outputs, or there are no samples: nothing to compare")
    if not all(meter.by_sample for meter in meters.values()):
        # An output without a sample axis counts as one sample per run: only several runs show its spread. What is made
        # of neighbouring rows is empty for one of them.
        for most in (batch.unit, NEIGHBOURS * batch.unit):
            if not most < min(batch.most, samples):
                break
            even = rows_between(feeds, 0, samples // most * most)
            with contextlib.suppress(OnnxMergeError):
                apart = _measured(before, after, even, replace(batch, most=most), integers)
                if all(meter.values for meter in apart[0].values()):
                    meters, samples, classes = apart
                    break
    measured = [meter for meter in meters.values() if meter.is_float] or list(meters.values())
    return Fidelity(
        cosine=float(np.mean([meter.distance.cosine() for meter in measured])),
        relative_l2=float(np.mean([meter.distance.relative_l2() for meter in measured])),
        top1_agreement=None if classes is None else float((classes[0] == classes[1]).mean()),
        samples=samples,
        source=source,
        provider=before.provider.name,
        outputs=in_order(meter.result() for meter in meters.values()),
        fitted=fitted,
        fitted_made_up=fitted_made_up and fitted is not None,
        in_sample=in_sample,
        real=real,
        classes=classes,
    )


def _measured(
    before: Session, after: Session, feeds: Mapping[str, Array], batch: BatchSize, integers: IntegerOutputs
) -> tuple[dict[str, OutputMeter], int, NDArray[np.int64] | None]:
    """Return the meter of every output, the number of samples, and their top classes before and after, (2, samples)."""
    meters: dict[str, OutputMeter] = {}
    classes: list[NDArray[np.int64]] = []
    names: list[str] = []
    samples = 0
    for chunk, size, valid in batches(feeds, before.inputs, batch):
        expected, actual = (
            {n: v.astype(np.float64) if n in integers.rounded else v for n, v in session.run(chunk).items()}
            for session in (before, after)
        )
        if expected.keys() - actual.keys():
            raise StructureError(f"the result lacks the outputs {sorted(expected.keys() - actual.keys())}")
        scores, new_scores = score_matrix(expected, size), score_matrix(actual, size)
        names = names or _compared(expected, integers, size)
        for name in names:
            meter = meters.setdefault(
                name, OutputMeter(name, scores is not None and holds_class_scores(expected[name], size))
            )
            meter.add(expected[name], actual[name], size, valid)
        if scores is not None and new_scores is not None:
            classes.append(np.stack([scores[:valid].argmax(1), new_scores[:valid].argmax(1)]))
        samples += valid
    return meters, samples, np.concatenate(classes, axis=1) if classes else None


def _compared(outputs: Mapping[str, Array], integers: IntegerOutputs, size: int) -> list[str]:
    """The outputs of ``size`` samples to compare: all numbers, but for lists in an order that float outputs show."""
    numeric = [name for name, value in outputs.items() if value.dtype != object]
    if any(is_float(outputs[name]) for name in numeric):
        return [name for name in numeric if name not in integers.ordered or outputs[name].size == size > 1]
    return numeric


def accuracy(
    model: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    labels: NDArray[np.int64],
    provider: ProviderChoice = CPU,
    *,
    batch: BatchSize = ANY,
) -> float:
    """Top-1 accuracy in percent on ``feeds``, each (N, ...), with class indices ``labels`` (N,).

    Raises
    ------
    UsageError: the model is no classifier, or the labels do not fit its classes or the samples.
    """
    session = model if isinstance(model, Session) else loaded(model, provider)
    right = position = 0
    for chunk, size, valid in batches(feeds, session.inputs, batch):
        scores = score_matrix(session.run(chunk), size)
        if scores is None:
            raise UsageError("accuracy needs a model with one output of scores, (N, classes): leave the labels out")
        expected = labels[position : position + valid]
        if len(expected) < valid:
            raise UsageError(f"there are {len(labels)} labels for more samples: give one label for each sample")
        check_classes(expected, scores.shape[1])
        right += int((scores[:valid].argmax(1) == expected).sum())
        position += valid
    if position != len(labels):
        raise UsageError(f"there are {len(labels)} labels for {position} samples: give one label for each sample")
    return 100.0 * right / position


def top_classes(model: Session, feeds: Mapping[str, Array], batch: BatchSize = ANY) -> NDArray[np.int64] | None:
    """Return the class with the largest score of every sample, (N,). None if the model is no classifier."""
    found: list[NDArray[np.int64]] = []
    for chunk, size, valid in batches(feeds, model.inputs, batch):
        scores = score_matrix(model.run(chunk), size)
        if scores is None:
            return None
        found.append(scores[:valid].argmax(1))
    return np.concatenate(found) if found else None
