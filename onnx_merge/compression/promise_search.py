"""Searches the smallest size for which a promise can be made, from the largest size down."""

from __future__ import annotations

from dataclasses import replace

from onnx_merge.compression.job import Job
from onnx_merge.errors import NotCompressibleError
from onnx_merge.evaluation.drop_bounds import Loss, Promise, fewest, samples_needed
from onnx_merge.evaluation.paired_losses import paired
from onnx_merge.tuning.compression import SIZE_SEARCH
from onnx_merge.tuning.evaluation import GUARANTEES
from passes.pipeline import Compressed
from passes.settings.compress import CompressSettings
from passes.settings.target import Target


def promised(job: Job, limit: float, confidence: float) -> tuple[Compressed, CompressSettings, Promise]:
    """The smallest size that keeps ``limit`` with ``confidence``, and the promise about it.

    Raises
    ------
    NotCompressibleError: no size does, or the samples are too few for any promise.
    UsageError: the model has no classes whose drop could be measured.
    """
    alpha, comparison = 1 - confidence, job.comparison
    found = paired(comparison)
    count, least = found.no_loss.samples, fewest(found.no_loss, limit, alpha)
    said = f"max-drop {limit:g} cannot be promised with confidence {confidence:g}"
    if comparison.samples.in_sample:
        raise NotCompressibleError(f"{said}: no samples could be held out; {least} without a single change would do")
    if count < least:
        raise NotCompressibleError(f"{said} by {count} held-out samples: {least} without a single change would do")
    best: tuple[Compressed, CompressSettings, Loss] | None = None
    tried = 0
    failed: Loss | None = None
    for size in GUARANTEES.sizes:
        settings = replace(job.settings, target=Target("macs", size, SIZE_SEARCH.width_deviation))
        try:
            compressed = job.compress(settings)
        except NotCompressibleError:  # no widths come near the size, which is known without held-out samples
            continue
        if not compressed.shrinks:
            continue
        tried += 1
        loss = found.lost(comparison.original.load(compressed.model))
        if not loss.kept(limit, alpha):
            failed = loss
            break
        best = compressed, settings, loss
    if best is None:
        raise NotCompressibleError(f"{said}: {_why(failed, limit, alpha)}")
    compressed, settings, loss = best
    promise = Promise(limit, confidence, count, tried, loss.bound(limit, alpha), found.measure)
    return compressed, settings, promise


def _why(failed: Loss | None, limit: float, alpha: float) -> str:
    if failed is None:
        return "the model cannot shrink that far"
    lost = f"{max(failed.mean, 0.0):.3g} is lost on {failed.samples} held-out samples by the largest size"
    needed = samples_needed(failed, limit, alpha)
    return f"{lost}; {f'some {needed:,} like them would do' if needed else 'no number of samples would do'}"
