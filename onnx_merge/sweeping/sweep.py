"""Run a sweep: analyse a model once, compress it to several sizes, and write the models and reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from onnx_merge.compression.benchmark import benchmark
from onnx_merge.compression.preparation import prepared_job
from onnx_merge.config.command_options import SweepOptions
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import INTERNAL, NotCompressibleError, OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.html.rendering import write_page
from onnx_merge.html.sweep_page import sweep_page
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.load import load_model
from onnx_merge.io.model_source import FileInfo, Model, Source, load_source
from onnx_merge.io.save import save_atomically, write_whole
from onnx_merge.io.scratch_space import weights_in_files
from onnx_merge.metrics.metric import check_sendable
from onnx_merge.plugins.entry_points import check_known_elsewhere, load_plugins
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.sweeping.candidates import CandidateResult
from onnx_merge.sweeping.executors import Executor, executor
from onnx_merge.sweeping.files import REPORTS, SweepFiles, shares
from onnx_merge.sweeping.plot import draw
from onnx_merge.sweeping.result import Point, Sweep
from onnx_merge.verification.recorded_options import recorded
from onnx_merge.whole_runs.decision import prepared_source
from passes.cost.cost import cost
from passes.interface.runner import Progress, StageTimer, checking_graphs, silent

REFUSED = (
    *("target_macs", "target_params", "target_latency", "max_drop", "lossless", "plan"),
    *("save_plan", "report", "dry_run", "html_samples"),
)
"""Options of a single run that a sweep refuses, because it chooses the sizes and writes its own reports."""


def sweep(
    model: Model,
    folder: str | os.PathLike[str],
    *,
    start: float = SweepOptions.start,
    stop: float = SweepOptions.stop,
    steps: int = SweepOptions.steps,
    jobs: int = SweepOptions.jobs,
    scheduler: str | None = SweepOptions.scheduler,
    **options: object,
) -> Sweep:
    """Compress a model to several sizes, and write the models and a comparison to a folder.

    Parameters
    ----------
    model: path of an ONNX file, or a model in memory; neither is changed.
    folder: for ``keep-0.30.onnx`` and so on, ``sweep.csv``, ``sweep.json`` and ``sweep.png``; created if necessary.
    start, stop, steps: shares of channels to keep, both ends included. For each, `optimize` with this ``keep`` gives
        the same model.
    jobs: processes that compress side by side. They share the cores and the memory limit, which is for all of them
        together.
    scheduler: address of a Dask scheduler whose workers compress instead.
    options: see `Options`, except those that determine the size.

    Raises
    ------
    UsageError, InputError: the options are invalid, or a file cannot be read.
    NotCompressibleError: no share gave an acceptable model.
    OnnxMergeError: a file cannot be written, or the cluster cannot be reached.
    """
    if "keep" in options:
        raise UsageError("keep is for a single run: a sweep goes by start, stop and steps")
    found = run(
        model, folder, Options.make({**options, "keep": 1.0}), shares(start, stop, steps), executor(jobs, scheduler)
    )
    if not any(point.status == "done" for point in found.points):
        raise no_success(found)
    return found


def no_success(found: Sweep) -> OnnxMergeError:
    """The error of a sweep without an acceptable model."""
    reasons = [point.reason for point in found.points if point.reason is not None]
    fault = next((reason for reason in reasons if reason.startswith(INTERNAL)), None)
    kind = NotCompressibleError if fault is None else OnnxMergeError
    return kind(f"none of {len(found.points)} shares gave a model: {fault or reasons[-1]}")


def run(
    model: Model,
    folder: str | os.PathLike[str],
    options: Options,
    keeps: Sequence[float],
    where: AbstractContextManager[Executor],
    *,
    progress: Progress = silent,
    argv: Sequence[str] = (),
    protected: Sequence[Path] = (),
) -> Sweep:
    """`sweep` for callers that show progress. If no share gave a model, this is reported in the points, not raised.

    For ``keeps`` see `onnx_merge.sweeping.files.shares`. The executor ``where`` is entered before the work begins. For
    ``argv`` and ``protected`` see `onnx_merge.compression.optimize.run`.
    """
    load_plugins()
    with custom_operators(options.custom_ops), checking_graphs(options.verbose):
        return _run(model, folder, options, keeps, where, progress, argv, protected)


def _run(
    model: Model,
    folder: str | os.PathLike[str],
    options: Options,
    keeps: Sequence[float],
    where: AbstractContextManager[Executor],
    progress: Progress,
    argv: Sequence[str],
    protected: Sequence[Path],
) -> Sweep:
    for name in REFUSED:
        if getattr(options, name):
            raise UsageError(
                f"{name.replace('_', '-')} is for a single run: a sweep sets how much goes and what it writes"
            )
    # The default gate is off: a sweep is meant to show where quality drops, so such models are marked, not rejected.
    options = replace(options, keep=min(keeps), gate=False)
    files = SweepFiles(model, Path(folder), keeps, options, tuple(protected))
    files.check()
    provider = available_provider(options.provider)
    stages = StageTimer(progress)
    # Other processes need not see the temporary files of this one.
    with where as executor, nullcontext() if executor.sends else weights_in_files():
        if executor.sends:
            check_sendable(options.metric)
            check_known_elsewhere()
        with stages("load"):
            source = load_source(model)
            files.check(source.files)
            source, run_options = prepared_source(source, options)
        with stages("prepare"):
            share = max(1, options.memory_limit // executor.processes)  # the limit is shared by all processes
            # Latency is measured at the end, when no other process computes.
            untimed = replace(run_options, benchmark=None, memory_limit=share)
            job = prepared_job(source, untimed, provider, stages, progress, processes=executor.processes)
            job.recorded = recorded(options)  # the limit of all processes: results do not depend on their number
            comparison, provider = job.comparison, job.provider
            job.prepare()
        with files.made():
            with stages("candidates"):
                made = [_written(result, files) for result in _shown(executor.run(job, keeps), progress, len(keeps))]
                made.sort(key=lambda pair: pair[0].keep)
            points = [point for point, _ in made]
            notes = [f"samples: {line}" for line in job.doubts] + [note for _, some in made for note in some]
            if earlier := files.earlier_models():
                notes.append(f"models of an earlier sweep are still in {folder}: {', '.join(earlier)}")
            if options.benchmark is not None:
                with stages("benchmark"):
                    timing = comparison.with_options(run_options)
                    timed = [_timed(point, files.folder, timing, source) for point in points]
                    points = [point for point, _ in timed]
                    notes += [*timing.notes, *(note for _, some in timed for note in some)]
            before = cost(job.compressor.analysis.before, RunObserver(provider), FOLDING)
            found = Sweep(
                version=__version__,
                input=source.info,
                folder=os.fspath(folder),
                before=replace(before, bytes=source.size or before.bytes),
                accuracy=comparison.before,
                points=tuple(points),
                seconds=stages.total(),
                seed=options.seed,
                argv=tuple(argv),
                provider=provider.name,
                notes=tuple(dict.fromkeys(notes)),
            )
            if any(point.cost is not None for point in points):
                _write(found, files.folder)
            if options.html is not None:
                write_page(sweep_page(found.to_dict()), options.html)
    return found


def _shown(results: Iterator[CandidateResult], progress: Progress, count: int) -> Iterator[CandidateResult]:
    for done, result in enumerate(results, 1):
        progress(f"{done} of {count} are done")
        yield result


def _written(result: CandidateResult, files: SweepFiles) -> tuple[Point, tuple[str, ...]]:
    """Write a candidate's model. Returns its point, and notes for the user."""
    keep, evaluation = result.candidate.keep, result.evaluation
    if evaluation is None or result.model is None:
        return Point(keep, "failed", result.reason, seconds=result.seconds), ()
    saved = save_atomically(result.model, files.model(keep, evaluation.failure), files.options.save_as_external_data)
    point = Point(
        keep,
        "rejected" if evaluation.failure else "done",
        result.reason,
        FileInfo(saved.path.name, saved.sha256),
        replace(evaluation.after, bytes=saved.size),
        evaluation.fidelity,
        evaluation.accuracy,
        ware=result.ware,
        seconds=result.seconds,
        metric=evaluation.metric,
    )
    return point, evaluation.notes


def _timed(point: Point, folder: Path, timing: Comparison, source: Source) -> tuple[Point, tuple[str, ...]]:
    """A point with its latency, and what could not be measured."""
    if point.file.path is None:
        return point, ()
    path = folder / point.file.path
    timed, notes = benchmark([path if source.axis is None else source.as_run(load_model(path).model)], timing)
    return replace(point, latency=tuple(each.pair() for each in timed)), notes


def _write(found: Sweep, folder: Path) -> None:
    table, report = (text.encode("utf-8", "backslashreplace") for text in (found.to_csv(), found.to_json()))
    for name, content in zip(REPORTS, (table, report, draw(found)), strict=True):
        write_whole(content, folder / name, "the file")
