"""Measures again what a file's metadata state about its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx

from onnx_merge.calibration.moved_samples import move_held_out
from onnx_merge.config.options import Options
from onnx_merge.errors import StructureError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.inputs.fixed_inputs import with_fixed
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.hashes import sha256_of_arrays
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
    comparison = _comparison(original, options, stated)
    result = comparison.load(made)
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
    same, source = comparison.compared_sha256 == stated.get("sha256"), without_folder(comparison.source)
    changed = f"{source} no longer holds what it did: some of its samples may have been fitted to"
    return replace(
        found,
        checks=(*found.checks, *checks),
        samples=close.samples if close else 0,
        source=source,
        same_samples=same,
        provider=comparison.provider.name,
        notes=(
            *comparison.notes,
            *_notes(measured, options),
            *([changed] if comparison.real and not same and source == stated.get("source") else []),
        ),
    )


def _comparison(original: Source, options: Options, stated: Table) -> Comparison:
    """Return the comparison on the samples of the statement, divided as they were then.

    If other samples are given, all of them are used, because no layer was fitted to them.
    """
    source = with_fixed(original, options)
    provider = available_provider(options.provider)
    found = Comparison(source.model, options, provider)
    given = options.labels is not None or options.has_samples
    if not given:
        return _on_made_up(found, stated)
    if found.samples is None:
        return found
    if sha256_of_arrays(found.compared_feeds(found.samples)) == stated.get("sha256"):
        return found
    count = options.check_n or VERIFICATION.other_samples
    others = replace(options, method="merge", max_drop=None, confidence=None, calib_samples=count, check_n=count)
    return Comparison(source.model, replace(others, provider=found.provider.name), found.provider)


def _on_made_up(comparison: Comparison, stated: Table) -> Comparison:
    """``comparison`` on made-up samples, moved as they were then. Those of older versions were not."""
    if comparison.session is not None and sha256_of_arrays(comparison.feeds_compared()) != stated.get("sha256"):
        observer = RunObserver(comparison.provider, seed=comparison.options.seed)
        analysis = analyse(comparison.model, comparison.assignments.witnesses, observer, StageTimer(), FOLDING)
        move_held_out(comparison, analysis)
    return comparison


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
    stated, measure, original = _table(measured, "metric"), comparison.measure, comparison.session
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
    before, after = (sorted(i.name for i in s.inputs) for s in (comparison.session, result) if s is not None)
    if before != after:
        raise UsageError(f"the file takes the inputs {after}, the original {before}: was it converted?")


def _table(table: Mapping[str, object], key: str) -> Table:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
