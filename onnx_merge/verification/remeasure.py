"""Measures again what a file's metadata state about its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx

from onnx_merge.calibration.moved_samples import with_moved
from onnx_merge.config.options import Options
from onnx_merge.errors import StructureError, UsageError
from onnx_merge.evaluation.comparison import Comparison, comparison_with
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.model_source import Source
from onnx_merge.metrics.metric import metric_of
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.checks import VERIFICATION
from onnx_merge.verification.checks import (
    DROP,
    Table,
    accuracy_check,
    number,
    output_checks,
    promise_check,
    relative_error_check,
)
from onnx_merge.verification.findings import Check, Verification
from onnx_merge.verification.metric_check import drop_error, metric_check
from onnx_merge.verification.statement import accuracy_table, output_table, without_folder
from onnx_merge.whole_runs.decision import prepared_source
from passes.analysis.analyse import analyse
from passes.interface.runner import Progress, StageTimer


def remeasured(
    found: Verification,
    made: onnx.ModelProto,
    original: Source,
    measured: Table,
    promise: Table | None,
    options: Options,
    progress: Progress,
) -> Verification:
    """Return ``found`` with new measurements, on the samples of the statement ``measured`` if they are given.

    On other samples, the ``promise`` is checked as well.

    Raises
    ------
    UsageError: the samples test none of the stated quantities, or the models have different inputs.
    OnnxMergeError: a model cannot be run.
    """
    stated = _table(measured, "fidelity")
    progress("prepare")
    prepared, options = prepared_source(original, options)
    comparison = _comparison(prepared, options, stated)
    result = comparison.original.load(prepared.as_run(made))
    _check_inputs(comparison, result)
    progress("compare")
    try:
        close, uncompared = comparison.fidelity(result)
        if close is None:
            raise UsageError(f"the original cannot be run: {'; '.join((*comparison.notes, *uncompared))}")
        checks = list(_checks(measured, comparison, close, result))
        promised = promise_check(promise, checks) if promise else None
        checks += [promised] if promised else []
    except StructureError as error:
        close, checks = None, [Check("outputs", keeps=False, reason=error.message)]
    if not checks:
        raise UsageError("these samples show nothing of what the file states: give those it was measured on, or others")
    same, source = comparison.compared_sha256 == stated.get("sha256"), without_folder(comparison.samples.source)
    changed = f"{source} no longer holds what it did: some of its samples may have been fitted to"
    return replace(
        found,
        checks=(*found.checks, *checks),
        samples=close.samples if close else 0,
        source=source,
        same_samples=same,
        provider=comparison.original.provider.name,
        notes=(
            *comparison.notes,
            *_notes(measured, options),
            *([changed] if comparison.samples.real and not same and source == stated.get("source") else []),
        ),
    )


def _comparison(source: Source, options: Options, stated: Table) -> Comparison:
    """Return the comparison on the samples of the statement, divided as they were then.

    If other samples are given, all of them are used, because no layer was fitted to them.
    """
    found = comparison_with(source.model, options, available_provider(options.provider))
    given = options.labels is not None or options.has_samples
    if not given:
        return _on_made_up(found, stated)
    if found.samples.measured is None or found.compared_sha256 == stated.get("sha256"):
        return found
    count = options.check_n or VERIFICATION.other_samples
    others = replace(options, method="merge", max_drop=None, confidence=None, calib_samples=count, check_n=count)
    provider = found.original.provider
    return comparison_with(source.model, replace(others, provider=provider.name), provider)


def _on_made_up(comparison: Comparison, stated: Table) -> Comparison:
    """``comparison`` on made-up samples, moved as they were then. Those of older versions were not."""
    original, options = comparison.original, comparison.options
    if original.session is None or comparison.compared_sha256 == stated.get("sha256"):
        return comparison
    observer = RunObserver(original.provider, seed=options.seed)
    analysis = analyse(original.model, original.assignments.witnesses, observer, StageTimer(), FOLDING)
    return Comparison(with_moved(comparison.samples, analysis), options)


def _checks(measured: Table, comparison: Comparison, close: Fidelity, result: Session) -> Iterator[Check]:
    stated = _table(measured, "fidelity")
    same = comparison.compared_sha256 == stated.get("sha256")
    now = {output.name: output_table(output, close.samples) for output in close.outputs}
    outputs = stated.get("outputs")
    some = False
    for output in outputs if isinstance(outputs, list) else []:
        for check in output_checks(output, now.get(output.get("name"), {}), int(number(stated, "samples") or 0), same):
            some = True
            yield check
    error = number(stated, "relative_l2")
    if not some and same and error is not None:
        yield relative_error_check(error, close.relative_l2)
    accuracy = comparison.accuracy(result)
    if accuracy is not None and measured.get("accuracy"):
        same = comparison.scored_sha256 == measured.get("scored_sha256")
        drop = accuracy_check(_table(measured, "accuracy"), accuracy_table(accuracy, close), same)
        yield from [drop] if drop else []
    yield from _metric_checks(measured, comparison, result)


def _metric_checks(measured: Table, comparison: Comparison, result: Session) -> Iterator[Check]:
    stated, measure, original = _table(measured, "metric"), comparison.measure, comparison.original.session
    if measure is None or original is None or stated.get("name") != measure.metric.name:
        return
    found = measure.measured(result, result, original)
    same = comparison.scored_sha256 == measured.get("scored_sha256")
    error = None if same else drop_error(measure, result, original, found.samples)
    check = metric_check(stated, found, error, same)
    yield from [check] if check else []


def _notes(measured: Table, options: Options) -> Iterator[str]:
    if measured.get("accuracy") and options.labels is None:
        yield f"the {DROP} that the file states was not measured: it takes --labels"
    metric = _table(measured, "metric").get("name")
    if metric and (options.metric is None or metric_of(options.metric).name != metric):
        yield f"the metric {metric} that the file states was not measured: it takes --metric"
    if not _table(measured, "fidelity").get("real") and (options.labels or options.has_samples):
        yield "what the file states was measured on made-up samples: of yours it says nothing else than of those"


def _check_inputs(comparison: Comparison, result: Session) -> None:
    """Refuse a file whose inputs differ from the original's."""
    before, after = (sorted(i.name for i in one.inputs) for one in (comparison.original, result))
    if comparison.original.session is not None and before != after:
        raise UsageError(f"the file takes the inputs {after}, the original {before}: was it converted?")


def _table(table: Mapping[str, object], key: str) -> Table:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
