"""Runs the tool on a model: load, compress, check, compare, save, report.

All refusals happen before the work begins. Nothing is written until all checks are done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnx_merge.compression.channel_plan import write_plan
from onnx_merge.compression.preparation import prepared_job
from onnx_merge.compression.result_evaluation import evaluated
from onnx_merge.compression.size_search import find
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import FidelityError, NotCompressibleError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.verdict import Fidelity
from onnx_merge.html.pictures import pictures
from onnx_merge.html.rendering import write_page
from onnx_merge.html.run_page import run_page
from onnx_merge.io.model_source import FileInfo, Model, load_source
from onnx_merge.io.output_paths import Destinations
from onnx_merge.io.save import needs_external_data, save_atomically, sha256_of_model
from onnx_merge.io.scratch_space import weights_in_files
from onnx_merge.plugins.entry_points import load_plugins
from onnx_merge.report.result import Result, write_report
from onnx_merge.report.sample_differences import worst_samples
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.verification.recorded_options import recorded
from onnx_merge.whole_runs.decision import prepared_source
from passes.analysis.layer_widths import layer_widths
from passes.interface.runner import Progress, StageTimer, checking_graphs
from passes.weights.stored_tensors import in_memory


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a run. ``failure``: the gate that the result missed."""

    model: onnx.ModelProto
    result: Result
    failure: FidelityError | None = None


def optimize(
    model: Model, output: str | os.PathLike[str] | None = None, **options: object
) -> tuple[onnx.ModelProto, Result]:
    """Compress a model, check the result, and save it to ``output`` if that is given.

    Parameters
    ----------
    model: path of an ONNX file, or a model in memory; neither is changed.
    output: path of the file to write.
    options: see `Options`; for instance ``keep=0.6``. If none sets the amount to remove, only redundant channels are
        removed (``lossless``). With labelled samples of the user (``calib``, ``labels``) the accuracy may drop by one
        point (``max_drop=1``).

    Returns
    -------
    The compressed model, and the result with all figures about it.

    Raises
    ------
    UsageError, InputError: the options make no sense, or a file cannot be read.
    NotCompressibleError: nothing can be removed. Nothing is written.
    FidelityError: the error of the outputs exceeds a limit (``max_nsr``, ``max_kl``, ``min_top1``,
        ``min_cosine``), the metric is below ``min_metric``, or the outputs are bad on the user's own samples, unless
        ``gate`` is False; the model is saved under ``output``'s name with ``.rejected.onnx``.
    StructureError: the result is not sound (a bug). Nothing is written.
    UnverifiedError: its outputs could not be compared with the original's, and ``unverified`` is not given. Nothing is
        written.
    OnnxMergeError: a file cannot be written, or a model cannot be run.
    """
    with weights_in_files():
        outcome = run(model, output, Options.make(options))
        if outcome.failure is not None:
            raise outcome.failure
        made = in_memory(outcome.model)
        return made, outcome.result if made is outcome.model else replace(outcome.result, model=made)


def run(
    model: Model,
    output: str | os.PathLike[str] | None,
    options: Options,
    *,
    progress: Progress = lambda stage: None,
    argv: Sequence[str] = (),
    protected: Sequence[Path] = (),
) -> Outcome:
    """`optimize` for callers that show progress and report a missed gate with all its numbers.

    Where ``options`` do not say how much may go, `Options.decided` does.

    ``argv`` is for the report; ``protected`` are files not to be overwritten besides those that ``options`` name. In
    a block of `weights_in_files`, the weights of a large model stay in files, and those of the result too.
    """
    options, chosen = options.decided()
    load_plugins()
    with custom_operators(options.custom_ops), checking_graphs(options.verbose):
        try:
            return _run(model, output, options, progress, argv, protected, chosen)
        except NotCompressibleError as error:
            if not chosen:
                raise
            more = "" if options.max_drop is not None else "; or give samples with --calib"
            tried = f"--{chosen} was tried, since no amount was given"
            raise NotCompressibleError(f"{tried}: {error.message}{more}") from error


def _run(
    model: Model,
    output: str | os.PathLike[str] | None,
    options: Options,
    progress: Progress,
    argv: Sequence[str],
    protected: Sequence[Path],
    chosen: str,
) -> Outcome:
    stages = StageTimer(progress)
    destinations = Destinations(model, output, options, tuple(protected))
    destinations.check()
    provider = available_provider(options.provider)
    with stages("load"):
        source = load_source(model)
        destinations.check(source.files)
        source, run_options = prepared_source(source, options)
    with stages("prepare"):
        job = prepared_job(source, run_options, provider, stages, progress, default_amount=bool(chosen))
        job.recorded = recorded(options)
        comparison, analysis = job.comparison, job.compressor.analysis
    choice = find(job)
    compressed = choice.compressed
    layers = layer_widths(analysis, {plan.group.atom: len(plan.keep) for plan in compressed.every_plan})
    job.release(compressed)
    evaluation = evaluated(job, compressed, choice.settings)
    with stages("save"):
        written, size = _save(
            evaluation.model, destinations.target(evaluation.failure), evaluation.after.bytes, options
        )
    result = Result(
        version=__version__,
        input=source.info,
        output=written,
        before=replace(evaluation.before, bytes=source.size or evaluation.before.bytes),
        after=replace(evaluation.after, bytes=size),
        fidelity=evaluation.fidelity,
        accuracy=evaluation.accuracy,
        latency=evaluation.latency,
        allocation=job.allocation(compressed),
        ware=compressed.solution.ware,
        groups=evaluation.groups,
        seconds=stages.total(),
        seed=options.seed,
        argv=tuple(argv),
        provider=comparison.original.provider.name,
        unfolded=compressed.unfolded,
        notes=(*evaluation.notes, *choice.notes),
        metric=evaluation.metric,
        promise=job.promise,
        chosen=chosen or None,
        doubts=job.doubts,
        formats=evaluation.formats,
        missed=evaluation.failure.message if evaluation.failure else None,
        layers=layers,
        options=job.recorded,
        samples_sha256=comparison.compared_sha256 if evaluation.fidelity else None,
        model=evaluation.model,
        pictures=_pictures(comparison, evaluation.fidelity) if options.html_samples else {},
    )
    if options.report is not None:
        write_report(result, options.report)
    if options.save_plan is not None:
        write_plan(compressed.every_plan, source.info.sha256, __version__, options.save_plan)
    if options.html is not None:
        write_page(run_page(result.report, result.pictures), options.html)
    return Outcome(evaluation.model, result, evaluation.failure)


def _pictures(comparison: Comparison, close: Fidelity | None) -> Mapping[int, str]:
    """Pictures of the samples whose outputs differ most."""
    return pictures(comparison.samples.compared(), worst_samples(close)) if close is not None else {}


def _save(model: onnx.ModelProto, target: Path | None, size: int, options: Options) -> tuple[FileInfo, int]:
    """Write the model if there is a target. Also returns its size in bytes. ``size``: the size that it would have."""
    if target is not None:
        saved = save_atomically(model, target, options.save_as_external_data)
        return FileInfo(str(target), saved.sha256), saved.size
    if needs_external_data(model):
        return FileInfo(None, None), size
    return FileInfo(None, sha256_of_model(model)), size
