"""The whole way of a model: load, compress, check, compare, save, report.

Everything that can be refused is refused before the work begins, and nothing is written until all checks are done.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnx_merge import __version__
from onnx_merge.benchmark import benchmark
from onnx_merge.compare import Comparison, gate
from onnx_merge.destinations import Destinations
from onnx_merge.errors import FidelityError, NothingToDoError, UsageError
from onnx_merge.latency import Latency
from onnx_merge.observe import RunObserver
from onnx_merge.options import Options
from onnx_merge.parity import check_structure
from onnx_merge.pieces import piecewise
from onnx_merge.result import FileInfo, GroupResult, Result, group_results, write_report
from onnx_merge.runtime import ProviderChoice, Session, available_provider
from onnx_merge.save import needs_external_data, save_atomically
from onnx_merge.source import Model, load_source
from onnx_merge.stages import Stages
from passes.calibrated.views import Samples
from passes.cost import cost
from passes.graph.errors import PassError, RunError
from passes.graph.model import Graph
from passes.merge import MergeSettings
from passes.normalise import normalise
from passes.pipeline import Compressed, Progress, compress
from passes.settings import CompressSettings, exclusions


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run came to. ``failure``: the gate that the result missed."""

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
    options: see `Options`; for instance ``keep=0.6`` or ``lossless=True``.

    Returns
    -------
    The compressed model, and all that was found out about it.

    Raises
    ------
    UsageError, InputError: the options make no sense, or a file cannot be read.
    NothingToDoError: nothing can be removed. Nothing is written.
    FidelityError: the outputs are farther off than ``min_cosine`` or ``min_top1`` allow; the model is saved under
        ``output``'s name with ``.rejected.onnx``.
    StructureError: the result is not sound (a bug). Nothing is written.
    OnnxMergeError: a file cannot be written, or a model cannot be run.
    """
    outcome = run(model, output, Options.make(options))
    if outcome.failure is not None:
        raise outcome.failure
    return outcome.model, outcome.result


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

    ``argv`` is for the report; ``protected`` are files not to be overwritten besides those that ``options`` name.
    """
    if options.keep is None and not options.lossless and not options.keep_layer:
        raise UsageError("how much may go was not said: give --keep 0.6, for example, or --lossless")
    stages = Stages(progress)
    destinations = Destinations(model, output, options, tuple(protected))
    destinations.check()
    provider = available_provider(options.provider)
    with stages("load"):
        source = load_source(model)
        destinations.check(source.files)
    with stages("prepare"):
        comparison = Comparison(source.model, options, provider)
        observer = RunObserver(provider, seed=options.seed)
        samples = _samples(comparison, options, provider)
        if samples is None and options.loses and options.method == "reconstruct":
            comparison.notes.append("merged by weights: the model could not be run on samples")
    settings = _settings(options, samples)
    try:
        compressed = _compress(source.model, settings, observer, progress, samples, comparison)
        excluded = exclusions([plan.group for plan in compressed.plans], settings)
    except PassError as error:
        raise UsageError(str(error)) from error
    stages.seconds.update(compressed.seconds)
    groups = group_results(compressed.plans, excluded)
    if options.asks_for_change and not compressed.shrinks:
        raise NothingToDoError(why_nothing(options, groups, compressed.quantised))
    with stages("check"):
        notes = check_structure(source.model, compressed.model, provider, sizes=comparison.sizes, seed=options.seed)
        if compressed.before.info.rigid is not None:
            notes.append(f"{compressed.before.info.rigid} holds one sample: as a batch of one the model was shrunk")
    with stages("compare"):
        after = Session(compressed.model, provider) if comparison.session else None
        close = comparison.fidelity(after) if after else None
        accuracy = comparison.accuracy(after) if after else None
        failure = gate(close, options)
    with stages("count"):
        smaller = Graph(normalise(compressed.model), settings.input_shapes, observer)
        before, now = cost(compressed.before), cost(smaller)
    latency: tuple[Latency, ...] = ()
    if options.benchmark is not None:
        with stages("benchmark"):
            latency = benchmark(compressed.model, comparison)
    with stages("save"):
        written, size = _save(compressed.model, destinations.target(failure), now.bytes)
    result = Result(
        version=__version__,
        input=source.info,
        output=written,
        before=replace(before, bytes=source.size or before.bytes),
        after=replace(now, bytes=size),
        fidelity=close,
        accuracy=accuracy,
        latency=latency,
        ware=compressed.solution.ware,
        groups=groups,
        seconds=stages.total(),
        seed=options.seed,
        argv=tuple(argv),
        provider=provider.name,
        unfolded=compressed.unfolded,
        notes=tuple(dict.fromkeys([*notes, *compressed.notes, *comparison.notes])),
    )
    if options.report is not None:
        write_report(result, options.report)
    return Outcome(compressed.model, result, failure)


def _save(model: onnx.ModelProto, target: Path | None, size: int) -> tuple[FileInfo, int]:
    """Write the model if there is a target. Also returns its bytes; ``size`` are those it would have."""
    if target is not None:
        saved = save_atomically(model, target)
        return FileInfo(str(target), saved.sha256), saved.size
    if needs_external_data(model):
        return FileInfo(None, None), size
    return FileInfo(None, hashlib.sha256(model.SerializeToString()).hexdigest()), size


def _samples(comparison: Comparison, options: Options, provider: ProviderChoice) -> Samples | None:
    """What to reconstruct from, where that is asked for."""
    if options.method not in ("auto", "reconstruct") or not options.loses:
        return None
    calibration = comparison.calibration()
    if calibration is None:
        return None
    return Samples(calibration.feeds, calibration.real, piecewise(provider), options.memory_limit)


def _compress(
    model: onnx.ModelProto,
    settings: CompressSettings,
    observer: RunObserver,
    progress: Progress,
    samples: Samples | None,
    comparison: Comparison,
) -> Compressed:
    """`compress`; by weights alone where the samples cannot be run through pieces of the model."""
    try:
        return compress(model, settings, observer, progress, samples)
    except RunError as error:
        comparison.notes.append(f"merged by weights, since the model could not be run in pieces: {error}")
        return compress(model, replace(settings, method="merge"), observer, progress)


def _settings(options: Options, samples: Samples | None) -> CompressSettings:
    method = "reconstruct" if options.method == "auto" else options.method
    return CompressSettings(
        keep=options.amount,
        lossless=options.lossless,
        method="merge" if method == "reconstruct" and samples is None else method,
        select=options.select,
        merge=MergeSettings(options.lambda_, options.threshold),
        coupled=options.coupled,
        exclude=options.exclude,
        keep_layers=options.keep_layer,
        input_shapes=dict(options.input_shape),
    )


def why_nothing(options: Options, groups: Sequence[GroupResult], quantised: str | None = None) -> str:
    """The most telling reason that no channel goes: the one that holds back most channels.

    ``quantised``: a node that cannot be cut since it is quantised.
    """
    held = [group for group in groups if group.status != "frozen"]
    if quantised is not None and not held:
        return f"nothing can be removed: {quantised} is quantised: merge first, then quantise"
    if not groups:
        return "nothing to compress: the model has no layer with weights whose channels could be removed"
    if options.lossless and any(group.status == "kept" for group in held):
        return "no channel is free (none dead, constant or parallel to another): use --keep 0.9, which is not lossless"
    if not options.lossless and any(group.status == "kept" for group in held):
        return "the groups are too small to lose a channel at this share: use a smaller --keep"
    channels: Counter[str] = Counter()
    for group in held or groups:
        channels[group.reason or "unknown"] += group.size
    reason = channels.most_common(1)[0][0]
    names = [group.name for group in held or groups if (group.reason or "unknown") == reason]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    remedy = ": exclude less" if held else ""
    return f"none of the {len(groups)} channel groups can shrink: {names[0]}{more}: {reason}{remedy}"
