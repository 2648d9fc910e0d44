"""Evaluates a compressed model: checks its structure, compares its outputs with the original's, and counts its cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx_merge.compression.benchmark import benchmark
from onnx_merge.compression.conversion import Compared, each_alone, rows
from onnx_merge.compression.explain_no_change import explain_no_change
from onnx_merge.compression.job import Job
from onnx_merge.equivalence.lossless_check import check_unchanged
from onnx_merge.equivalence.structure import CHANGE_LESS_REMEDY, check_structure
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
from passes.cost.cost import Cost, cost
from passes.graph.model import Graph
from passes.pipeline import Compressed
from passes.settings.compress import CompressSettings, exclusions
from passes.shapes.overridable_inputs import lists_all
from passes.transforms.canonicalize import canonicalize


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a compressed model. See the fields of `onnx_merge.report.result.Result`."""

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


def evaluated(job: Job, compressed: Compressed, settings: CompressSettings) -> Evaluation:
    """Check a result of ``job``, compare it with the original, and count its cost.

    Raises
    ------
    NotCompressibleError: no channel was removed, although some should have been.
    StructureError: the result is not sound.
    """
    options, comparison, provider = job.options, job.comparison, job.provider
    excluded = exclusions([plan.group for plan in compressed.every_plan], settings)
    groups = group_results(compressed.every_plan, excluded, compressed.measured)
    if options.asks_for_change and not compressed.shrinks:
        block = settings.blocks.size if settings.blocks.strict else 1
        named = bool(options.keep_layer)
        why = explain_no_change(options.lossless, groups, compressed.quantised, block=block, kept_by_name=named)
        raise NotCompressibleError(why)
    original, rigid = job.source.model, compressed.before.info.rigid
    with job.stages("check"):
        notes = check_structure(
            original,
            compressed.model,
            provider,
            assignments=comparison.assignments,
            seed=options.seed,
            session=comparison.session,
            newer_operators=job.converter is not None,
        )
        if not options.loses:
            unconverted = compressed.unconverted or compressed.model
            notes += check_unchanged(original, unconverted, comparison.assignments, provider, seed=options.seed)
        if rigid is not None:
            notes.append(f"{rigid} holds one sample: as a batch of one the model was shrunk")
        if len(compressed.model.graph.input) < len(original.graph.input) and lists_all(original):
            notes.append("weights are no graph inputs any more: onnxruntime runs faster if callers cannot replace them")
    with job.stages("compare"):
        after = comparison.load(compressed.model) if comparison.session else None
        try:
            close, uncompared = comparison.fidelity(after) if after else (None, ())
        except StructureError as error:
            raise StructureError(f"{error.message}; {CHANGE_LESS_REMEDY}") from error
        if close is not None and not options.loses and job.converter is None:
            close = replace(close, exact=True)
        if close is not None:
            close = replace(close, unlike_training=job.unlike_training)
        accuracy = comparison.accuracy(after) if after else None
        if close is not None and accuracy is not None:
            close = replace(close, accuracy_lost=((accuracy.before - accuracy.after) / 100, accuracy.samples))
        metric = comparison.metric(compressed, after) if after else None
        alone, missing = list[Compared](), tuple[str, ...]()
        if job.converter is not None and compressed.unconverted is not None:
            alone, missing = each_alone(comparison, compressed.unconverted, job.converter)
    stated = None
    if options.provenance:
        found = (close, accuracy, metric, job.promise)
        stated = statement(job.source, job.recorded, comparison, *found)
    stamp(compressed.model, stated)
    with job.stages("count"):
        # one shows the shapes; what of them varies, which bodies need to know, several show
        sizes = settings.assignments if compressed.inside else settings.assignments[:1]
        smaller = Graph(canonicalize(compressed.model, FOLDING), sizes, job.observer, FOLDING)
        before, now = (cost(graph, job.observer, FOLDING) for graph in (compressed.before, smaller))
    timed, untimed = tuple[Latencies, ...](), tuple[str, ...]()
    if options.benchmark is not None:
        with job.stages("benchmark"):
            timed, untimed = benchmark([compressed.model, *(one.model for one in alone)], comparison)
    formats = tuple[FormatResult, ...]()
    if job.converter is not None:
        formats = rows(comparison, Compared("result", compressed.model, close, accuracy), alone, timed)
    notes += [*map(with_option_names, compressed.notes), *comparison.notes, *job.notes, *uncompared, *missing, *untimed]
    return Evaluation(
        groups,
        before,
        now,
        close,
        accuracy,
        tuple(each.pair() for each in timed),
        together(gate(close, options, job.default_amount), metric_gate(metric, options)),
        tuple(dict.fromkeys(notes)),
        metric,
        formats,
    )
