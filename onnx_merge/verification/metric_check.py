"""Checks that a user's metric falls by no more than a file states."""

from __future__ import annotations

import math

from scipy.special import stdtrit

from onnx_merge.errors import OnnxMergeError
from onnx_merge.metrics.measure import Measure, Measured
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.checks import VERIFICATION
from onnx_merge.verification.checks import Table, number
from onnx_merge.verification.findings import Check
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at


def metric_check(stated: Table, found: Measured, error: float | None, same: bool) -> Check | None:
    """Check how far a metric falls. ``error``: standard error of the drop of ``found``. None if no check is possible.

    On other samples, the statement is assumed to have the standard error that ``found`` would have at its number of
    samples.
    """
    value, now = _drop(number(stated, "before"), number(stated, "after")), _drop(found.before, found.after)
    samples = number(stated, "samples")
    if value is None or now is None or not samples or not (same or error is not None):
        return None
    size = max(abs(v) for v in (found.before, found.after, 0.0) if math.isfinite(v))
    allowed = value + max(1 / samples, VERIFICATION.flips) * size
    ours = theirs = None
    if not same and error is not None:
        ours = float(stdtrit(VERIFICATION.metric_parts - 1, 0.975)) * error
        theirs = ours * math.sqrt(found.samples / samples)
        allowed += ours + theirs
    keeps = now <= allowed
    why = None if keeps else f"{found.name} drops by {now:.3g}, but at most {allowed:.3g} would be as stated"
    low, high = (None, None) if theirs is None else (value - theirs, value + theirs)
    now_low, now_high = (None, None) if ours is None else (now - ours, now + ours)
    return Check(f"{found.name} drop", None, value, low, high, now, now_low, now_high, allowed, keeps, why)


def drop_error(measure: Measure, result: Session, original: Session, samples: int) -> float | None:
    """Return the standard error of the metric's drop, from its drops on parts of the samples, or None."""
    parts = VERIFICATION.metric_parts
    if samples < 2 * parts:
        return None
    given, before = measure.samples, Predictor(original)
    after = Predictor(result, original=before)
    drops = []
    for k in range(parts):
        feeds = samples_at(given.feeds, range(k, sample_count(given.feeds), parts))
        labels = None if given.labels is None else given.labels[k::parts]
        try:
            drop = _drop(measure.metric(before, feeds, labels), measure.metric(after, feeds, labels))
        except OnnxMergeError:  # the metric may be undefined on a part
            return None
        if drop is None:
            return None
        drops.append(drop)
    mean = math.fsum(drops) / parts
    return math.sqrt(math.fsum((drop - mean) ** 2 for drop in drops) / (parts - 1) / parts)


def _drop(before: float | None, after: float | None) -> float | None:
    """Return the decrease of a metric. If the original's is infinite (it is compared with itself), the decrease from
    0."""
    if after is None or not math.isfinite(after):
        return None
    return (before if before is not None and math.isfinite(before) else 0.0) - after
