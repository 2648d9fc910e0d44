"""Builds the statement in a model's metadata: the measurements, and the samples they were made on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from scipy.special import betaincinv, ndtri, stdtrit

from onnx_merge.config.version import __version__
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.io.base_name import base_name
from onnx_merge.io.model_source import Source
from onnx_merge.metrics.measure import Measured
from onnx_merge.report.json_tables import finite
from onnx_merge.tuning.checks import VERIFICATION
from onnx_merge.verification.provenance import Provenance, lineage

if TYPE_CHECKING:
    from onnx_merge.evaluation.comparison import Comparison
    from onnx_merge.evaluation.drop_bounds import Promise
    from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity

DIGITS = 4
"""Significant digits of stated numbers. Further digits depend on the number of threads."""
NOISE = 1e-9
"""Shares of variance below this are rounding errors and are stated as 0."""


def statement(
    source: Source,
    options: Mapping[str, object],
    comparison: Comparison,
    close: Fidelity | None,
    accuracy: Accuracy | None,
    metric: Measured | None,
    promise: Promise | None,
) -> Provenance:
    """Return the provenance of a result of ``source``.

    ``options``: as returned by `onnx_merge.verification.recorded_options.recorded`.
    """
    measured: dict[str, object] = {"provider": comparison.original.provider.name}
    if close is not None:
        measured["fidelity"] = _fidelity(close, comparison)
    if accuracy is not None:
        measured["accuracy"] = accuracy_table(accuracy, close)
    if metric is not None:
        values = {"before": rounded(metric.before), "after": rounded(metric.after)}
        measured["metric"] = {"name": metric.name, **values, "samples": metric.samples}
    if accuracy is not None or metric is not None:
        measured["scored_sha256"] = comparison.scored_sha256
    table = finite(measured)
    assert isinstance(table, dict)
    hashes = (source.info.sha256, source.data_sha256, lineage(source.model))
    return Provenance(__version__, *hashes, options, table, _promise(promise))


def _promise(promise: Promise | None) -> dict[str, object] | None:
    if promise is None:
        return None
    table = finite({**asdict(promise), "bound": rounded(promise.bound)})
    assert isinstance(table, dict)
    return table


def _fidelity(close: Fidelity, comparison: Comparison) -> dict[str, object]:
    return {
        "verdict": close.verdict,
        "relative_l2": rounded(close.relative_l2),
        "outputs": [output_table(output, close.samples) for output in close.outputs],
        "samples": close.samples,
        "held_out": close.held_out,
        "fitted": close.fitted,
        "in_sample": close.in_sample,
        "real": close.real,
        "source": without_folder(close.source),
        "split": comparison.samples.split,
        "sha256": comparison.compared_sha256,
    }


def output_table(output: OutputFidelity, samples: int) -> dict[str, object]:
    """Return the rounded numbers of an output with their intervals: at 99% for ``nsr``, at 95% for ``changed``."""
    table: dict[str, object] = {"name": output.name, "tested": output.tested, "constant": output.constant}
    low, high = bounds(output.nsr, output.nsr_error, samples)
    numbers = {"nsr": output.nsr, "nsr_low": low, "nsr_high": high, "kl": output.kl, "changed": output.changed}
    numbers |= {"changed_low": output.changed_low, "changed_high": output.changed_high}
    return table | {key: rounded(value) for key, value in numbers.items()}


def bounds(value: float | None, error: float | None, samples: int) -> tuple[float | None, float | None]:
    """Return the interval of a positive mean over ``samples``, given its relative standard ``error``.

    It is Student's interval of the logarithm, since noise is skewed. Its level is 99%, because a few samples contribute
    most of the noise and the actual coverage is lower.
    """
    if value is None or error is None or samples < 2:
        return None, None
    quantile = float(stdtrit(samples - 1, 0.5 + VERIFICATION.nsr_confidence / 2))
    width = min(quantile * error, VERIFICATION.widest_interval)
    return value * math.exp(-width), value * math.exp(width)


def accuracy_table(accuracy: Accuracy, close: Fidelity | None) -> dict[str, object]:
    """Return the accuracies in percent, and the 95% interval of their difference in points."""
    drop = accuracy.before - accuracy.after
    width = drop_width(accuracy.samples, close)
    low, high = (None, None) if width is None else (drop - width, drop + width)
    table = {"before": accuracy.before, "after": accuracy.after, "drop_low": low, "drop_high": high}
    return {**{key: rounded(value) for key, value in table.items()}, "samples": accuracy.samples}


def drop_width(samples: int, close: Fidelity | None) -> float | None:
    """Return half the width of the interval of a drop of accuracy, in points.

    The drop is a mean of differences by sample, which are 0 where the class does not change. The share of changes is at
    most its upper bound (Clopper and Pearson).
    """
    if close is None or close.top1_agreement is None:
        return None
    changed = round((1 - close.top1_agreement) * close.samples)
    share = (
        float(betaincinv(changed + 1, close.samples - changed, 0.5 + VERIFICATION.confidence / 2))
        if changed < close.samples
        else 1.0
    )
    return 100 * float(ndtri(0.5 + VERIFICATION.confidence / 2)) * math.sqrt(share / samples)


def rounded(value: float | None) -> float | None:
    """Round ``value`` to the number of digits that are stated."""
    if value is None or not math.isfinite(value):
        return None
    return 0.0 if abs(value) < NOISE else float(f"{value:.{DIGITS}g}")


def without_folder(source: str) -> str:
    """Return the description of the samples without the folder of their file: ``labels test.npz``."""
    kind, space, path = source.partition(" ")
    return f"{kind}{space}{base_name(path)}" if space else base_name(source)
