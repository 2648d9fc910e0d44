"""Searches the size at which a limit on accuracy loss or latency is just kept.

Sizes are shares of the multiply-adds. All trials share the analysis of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from onnx_merge.compression.job import Job, SizeGapError
from onnx_merge.compression.promise_search import promised
from onnx_merge.errors import NotCompressibleError
from onnx_merge.evaluation.drops import Drop, drop_measure
from onnx_merge.latency.measure import latency_ratio
from onnx_merge.tuning.compression import SIZE_SEARCH
from passes.pipeline import Compressed
from passes.settings.compress import CompressSettings
from passes.settings.target import Target


@dataclass(frozen=True)
class Trial:
    """``size``: the share of the multiply-adds that was asked for. ``value``: the measured value."""

    size: float
    value: float
    compressed: Compressed
    settings: CompressSettings


@dataclass(frozen=True)
class SizeChoice:
    """``settings``: those that give ``compressed``. ``notes``: how they were chosen."""

    compressed: Compressed
    settings: CompressSettings
    notes: tuple[str, ...] = ()


def find(job: Job) -> SizeChoice:
    """The result that the job's options ask for.

    Raises
    ------
    NotCompressibleError: no size keeps to the limit; see also `Job.compress`.
    UsageError: the model has no classes whose drop could be measured.
    """
    options = job.options
    if options.max_drop is not None and options.confidence is not None:
        compressed, settings, job.promise = promised(job, options.max_drop, options.confidence)
        return SizeChoice(compressed, settings)
    if options.max_drop is not None:
        return _within_drop(job, options.max_drop)
    if options.target_latency is not None and options.target_latency < 1:
        return _within_latency(job, options.target_latency)
    return SizeChoice(job.compress(job.settings), job.settings)


def _within_drop(job: Job, limit: float) -> SizeChoice:
    drop = drop_measure(job.comparison)

    def attempt(size: float) -> Trial:
        """At low effort, which ranks sizes in less time."""
        settings = replace(job.settings, effort="low", target=Target("macs", size, SIZE_SEARCH.width_deviation))
        compressed = _shrunk(job, settings)
        return Trial(size, drop.of(compressed), compressed, settings)

    lowest = limit - drop.close(limit)
    tried = _bisect(attempt, limit, rising=False, start=0.5, stop=lambda value: lowest <= value <= limit)
    best = min((t for t in tried if t.value <= limit), key=lambda t: t.size, default=None)
    if best is None:
        least = min(tried, key=lambda t: t.value, default=None)
        raise NotCompressibleError(f"max-drop {limit:g} cannot be met: {_least(least, drop.said)}")
    best = _refined(job, best, drop)
    where = f"{job.comparison.samples.description}, which chose the size"
    sizes = "1 size was" if len(tried) == 1 else f"{len(tried)} sizes were"
    note = f"{sizes} tried; {drop.said(best.value)} on {where}"
    return SizeChoice(best.compressed, best.settings, (note,))


def _refined(job: Job, best: Trial, drop: Drop) -> Trial:
    """``best`` at the effort that was asked for, or as it is if that loses more."""
    if job.settings.effort == best.settings.effort or job.settings.method != "reconstruct":
        return best
    settings = replace(best.settings, effort=job.settings.effort)
    compressed = job.compress(settings)
    value = drop.of(compressed)
    return Trial(best.size, value, compressed, settings) if value <= best.value else best


class NoChannelRemovedError(NotCompressibleError):
    """No channel is removed at a size that was tried: the original is as near to it as any smaller model."""


def _within_latency(job: Job, limit: float) -> SizeChoice:
    feeds = job.comparison.samples.batch(1)

    def attempt(size: float) -> Trial:
        settings, drafted = _drafted(job, size)
        models = (job.source.model, drafted.model)
        value = latency_ratio(*models, feeds, job.provider, job.options.threads, seconds=SIZE_SEARCH.seconds)
        return Trial(size, value, drafted, settings)

    near = SIZE_SEARCH.latency_deviation
    tried = _bisect(attempt, limit, rising=True, start=limit, stop=lambda value: abs(value - limit) <= near * limit)
    best = max((t for t in tried if t.value <= limit * (1 + near)), key=lambda t: t.value, default=None)
    if best is None:
        least = min(tried, key=lambda t: t.value, default=None)
        why = _least(least, lambda value: f"{value:.3g} of it is the least")
        raise NotCompressibleError(f"target-latency {limit:g} cannot be met: {why}")
    note = f"{len(tried)} sizes were timed; this one took {best.value:.3f} of the time"
    return SizeChoice(job.compress(best.settings), best.settings, (note,))


def _drafted(job: Job, size: float) -> tuple[CompressSettings, Compressed]:
    """Settings and their draft, with widths as near to a size as possible: no search ends nearer to a latency."""
    near, rough = (
        replace(job.settings, target=Target("macs", size, by))
        for by in (SIZE_SEARCH.latency_deviation, SIZE_SEARCH.width_deviation)
    )
    try:
        return near, _shrunk(job, replace(near, draft=True))
    except NotCompressibleError:
        return rough, _shrunk(job, replace(rough, draft=True))


def _shrunk(job: Job, settings: CompressSettings) -> Compressed:
    compressed = job.compress(settings)
    if not compressed.shrinks:  # the original meets the size
        raise NoChannelRemovedError("no channel goes")
    return compressed


def _attempt_near(attempt: Callable[[float], Trial], size: float) -> Trial:
    """A trial of ``size``. Where no widths come near it, a trial of the nearest possible size."""
    try:
        return attempt(size)
    except SizeGapError as gap:
        nearest = gap.nearest
    if nearest >= 1:
        raise NoChannelRemovedError("no channel goes")
    return attempt(nearest)


def _least(trial: Trial | None, said: Callable[[float], str]) -> str:
    if trial is None:
        return "the model cannot shrink that far"
    return f"{said(trial.value)}, at {100 * trial.size:.0f}% of the multiply-adds"


def _bisect(
    attempt: Callable[[float], Trial], limit: float, *, rising: bool, start: float, stop: Callable[[float], bool]
) -> list[Trial]:
    """Trials that bracket the size at which the value crosses ``limit``. ``rising``: whether the value grows with
    size."""
    tried: list[Trial] = []
    low, high, size = 0.0, 1.0, start
    ends: dict[float, float] = {1.0: 1.0 if rising else 0.0}  # the original's
    while len(tried) < SIZE_SEARCH.trials and high - low > SIZE_SEARCH.resolution:
        try:
            trial = _attempt_near(attempt, size)
        except NoChannelRemovedError:  # nothing is removed at this size: try smaller ones
            high = size
            ends[size] = ends[1.0]
        except NotCompressibleError:  # it cannot shrink that far
            low = size
        else:
            tried.append(trial)
            ends[size] = trial.value
            if stop(trial.value):
                break
            low, high = (low, size) if (trial.value > limit) == rising else (size, high)
        size = (low + high) / 2
        if low in ends and high in ends and ends[low] != ends[high]:
            # Linear interpolation, kept away from the ends so that both of them converge.
            crossing = low + (high - low) * (limit - ends[low]) / (ends[high] - ends[low])
            size = min(max(crossing, low + 0.15 * (high - low)), high - 0.15 * (high - low))
    return tried
