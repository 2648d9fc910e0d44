"""Evaluates a compressed model: checks its structure, compares its outputs with the original's, and counts its cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from onnx_merge.compression.benchmark import benchmark
from onnx_merge.compression.conversion import Compared, each_alone, rows
from onnx_merge.compression.explain_no_change import explain_no_change
from onnx_merge.compression.job import Job
from onnx_merge.equivalence.lossless_check import check_unchanged
from onnx_merge.equivalence.structure import CHANGE_LESS_REMEDY, check_structure
from onnx_merge.equivalence.verifiable import NAMED
from onnx_merge.errors import FidelityError, NotCompressibleError, StructureError
from onnx_merge.errors.option_names import with_option_names
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.evaluation.gates import gate
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.latency.measure import Latencies, Latency
from onnx_merge.metrics.measure import Measured, metric_gate, together
from onnx_merge.report.group_result import GroupResult, group_results
from onnx_merge.report.result import FormatResult
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.verification.provenance import stamp
from onnx_merge.verification.statement import statement
from onnx_merge.whole_runs.decision import note, uncounted
from passes.cost.cost import Cost, cost, model_bytes
from passes.graph.model import Graph
from passes.pipeline import Compressed
from passes.settings.compress import CompressSettings, exclusions
from passes.shapes.overridable_inputs import lists_all
from passes.transforms.canonicalize import canonicalize


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a compressed model. See the fields of `onnx_merge.report.result.Result`."""

    model: onnx.ModelProto
    """The result, in the form of the input."""
    groups: tuple[GroupResult, ...]
    before: Cost
    after: Cost
    fidelity: Fidelity | None
    accuracy: Accuracy | None
    latency: tuple[Latency, ...]
    failure: FidelityError | None
    notes: tuple[str, ...]
    metric: Measured | None = None
    formats: tuple[FormatResult, ...] = ()


@dataclass(frozen=True)
class _Measurements:
    """What was measured of a result's outputs, and of what it was converted from; see `Evaluation`."""

    fidelity: Fidelity | None
    accuracy: Accuracy | None
    metric: Measured | None
    alone: list[Compared]
    """The steps of a conversion, each by itself."""
    notes: tuple[str, ...]


def evaluated(job: Job, compressed: Compressed, settings: CompressSettings) -> Evaluation:
    """Check a result of ``job``, compare it with the original, and count its cost.

    Raises
    ------
    NotCompressibleError: no channel was removed, although some should have been.
    StructureError: the result is not sound.
    """
    options, comparison = job.options, job.comparison
    groups = _groups(job, compressed, settings)
    with job.stages("check"):
        checked = _checked(job, compressed)
        made = _as_written(job, compressed)
    with job.stages("compare"):
        found = _measured(job, compressed)
    stated = None
    if options.provenance:
        measurements = (found.fidelity, found.accuracy, found.metric, job.promise)
        stated = statement(job.source, job.recorded, comparison, *measurements)
    stamp(made, stated)
    with job.stages("count"):
        before, after = _costs(job, compressed, settings)
    timed, untimed = tuple[Latencies, ...](), tuple[str, ...]()
    if options.benchmark is not None:
        with job.stages("benchmark"):
            timed, untimed = benchmark([compressed.model, *(one.model for one in found.alone)], comparison)
    formats = tuple[FormatResult, ...]()
    if job.converter is not None:
        result = Compared("result", compressed.model, found.fidelity, found.accuracy)
        formats = rows(comparison, result, found.alone, timed)
    notes = (*checked, *map(with_option_names, compressed.notes), *comparison.notes, *job.notes, *found.notes, *untimed)
    return Evaluation(
        model=made,
        groups=groups,
        before=before,
        after=after if made is compressed.model else replace(after, bytes=model_bytes(made)),
        fidelity=found.fidelity,
        accuracy=found.accuracy,
        latency=tuple(each.pair() for each in timed),
        failure=together(gate(found.fidelity, options, job.default_amount), metric_gate(found.metric, options)),
        notes=tuple(dict.fromkeys(notes)),
        metric=found.metric,
        formats=formats,
    )


def _groups(job: Job, compressed: Compressed, settings: CompressSettings) -> tuple[GroupResult, ...]:
    """The rows of the groups. Raises `NotCompressibleError` where none of them lost a channel and one should have."""
    options, plans = job.options, compressed.every_plan
    groups = group_results(plans, exclusions([plan.group for plan in plans], settings), compressed.measured)
    if options.asks_for_change and not compressed.shrinks:
        block = settings.blocks.size if settings.blocks.strict else 1
        named = bool(options.keep_layer) or options.plan is not None
        why = explain_no_change(options.lossless, groups, compressed.quantised, block=block, kept_by_name=named)
        raise NotCompressibleError(why)
    return groups


def _checked(job: Job, compressed: Compressed) -> list[str]:
    """Check the structure of a result, and that a lossless one is the original. Returns notes."""
    model, original, opened = compressed.model, job.source.model, job.comparison.original
    notes = check_structure(
        original,
        model,
        job.provider,
        assignments=opened.assignments,
        seed=job.options.seed,
        session=opened.session,
        newer_operators=job.converter is not None,
    )
    if not job.options.loses:
        unconverted = compressed.unconverted or model
        notes += check_unchanged(original, unconverted, opened.assignments, job.provider, seed=job.options.seed)
    if job.source.axis is not None:
        notes.append(note(job.source.axis))
    if (rigid := compressed.before.info.rigid) is not None:
        notes.append(f"{rigid} holds one sample: as a batch of one the model was shrunk")
    if lists_all(original) and not lists_all(model):
        notes.append("weights are no graph inputs any more: onnxruntime runs faster if callers cannot replace them")
    given = {value.name for value in original.graph.input}
    if original.ir_version < 4 and (new := [v.name for v in model.graph.input if v.name not in given]):
        more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
        why = f"new graph inputs, since IR version {original.ir_version} lists weights there"
        notes.append(f"{why}: {', '.join(new[:NAMED])}{more}")
    return notes


def _as_written(job: Job, compressed: Compressed) -> onnx.ModelProto:
    """The result in the form of the input, checked like the result itself where that differs."""
    source, opened = job.source, job.comparison.original
    if source.axis is None:
        return compressed.model
    model = source.as_written(compressed.model)
    runs = tuple({name: shape[1:] for name, shape in run.items()} for run in opened.assignments.found)
    check_structure(
        source.axis.given,
        model,
        job.provider,
        assignments=replace(opened.assignments, found=runs, asked=None),
        seed=job.options.seed,
        newer_operators=job.converter is not None,
    )
    return model


def _measured(job: Job, compressed: Compressed) -> _Measurements:
    """Compare the outputs of a result, and of each step of its conversion, with the original's."""
    comparison = job.comparison
    if comparison.original.session is None:
        return _Measurements(None, None, None, [], ())
    result = comparison.original.load(compressed.model)
    try:
        close, notes = comparison.fidelity(result, job.fitted)
    except StructureError as error:
        raise StructureError(f"{error.message}; {CHANGE_LESS_REMEDY}") from error
    accuracy = comparison.accuracy(result)
    if close is not None:
        lost = ((accuracy.before - accuracy.after) / 100, accuracy.samples) if accuracy is not None else None
        exact = not job.options.loses and job.converter is None
        close = replace(close, exact=exact, unlike_training=job.unlike_training, accuracy_lost=lost)
    metric = comparison.metric(compressed, result)
    alone = list[Compared]()
    if job.converter is not None and compressed.unconverted is not None:
        alone, missing = each_alone(comparison, compressed.unconverted, job.converter)
        notes += missing
    return _Measurements(close, accuracy, metric, alone, notes)


def _costs(job: Job, compressed: Compressed, settings: CompressSettings) -> tuple[Cost, Cost]:
    """The cost of the original and of a result."""
    # Several assignments show what grows with the batch.
    smaller = Graph(canonicalize(compressed.model, FOLDING), settings.assignments, job.observer, FOLDING)
    graphs = (compressed.before, smaller)
    before, after = (uncounted(cost(graph, job.observer, FOLDING), graph) for graph in graphs)
    return before, after
