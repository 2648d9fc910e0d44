"""Summarises how far the outputs of each sample are from the original's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.tuning.pages import SAMPLE_REPORT

if TYPE_CHECKING:  # avoids importing scipy for a report
    from onnx_merge.evaluation.verdict import Fidelity

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def worst_samples(close: Fidelity | None) -> list[int]:
    """Return the indices, among the samples compared, of those whose outputs differ most, the worst first."""
    values = None if close is None else _values(close)[1]
    if values is None:
        return []
    return [int(k) for k in np.argsort(-values, kind="stable")[: SAMPLE_REPORT.worst] if values[k] > 0]


def differences_table(close: Fidelity | None) -> dict[str, object] | None:
    """Return the noise over signal by sample of the output with the largest one, as JSON types; None where no sample
    axis is tested."""
    if close is None:
        return None
    name, values = _values(close)
    if values is None or not len(values):
        return None
    edges, counts = _histogram(values)
    worst: list[object] = [{"sample": k, "nsr": float(values[k]), **_classes(close, k)} for k in worst_samples(close)]
    quantiles: dict[str, object] = {f"{q:g}": float(np.quantile(values, q)) for q in QUANTILES}
    return {"output": name, "quantiles": quantiles, "edges": edges, "counts": counts, "worst": worst}


def _values(close: Fidelity) -> tuple[str, NDArray[Any] | None]:
    """Return the output with the largest noise over signal, and its noise by sample."""
    known = [output for output in close.varying if output.by_sample is not None]
    if not known:
        return "", None
    output = max(known, key=lambda one: (one.tested, one.nsr or 0.0))
    return output.name, output.by_sample


def _classes(close: Fidelity, sample: int) -> dict[str, object]:
    if close.classes is None or sample >= close.classes.shape[1]:
        return {"before": None, "after": None}
    return {"before": int(close.classes[0, sample]), "after": int(close.classes[1, sample])}


def _histogram(values: NDArray[Any]) -> tuple[list[object], list[object]]:
    """Return edges, evenly spaced on a logarithmic axis, and the counts between them."""
    most = float(values.max())
    if most <= 0:
        return [], []
    least = max(float(values.min()), most * 10**-SAMPLE_REPORT.decades)
    if least >= most:
        least = most / 10
    edges = np.geomspace(least, most, min(SAMPLE_REPORT.most_bins, math.ceil(2 * len(values) ** (1 / 3))) + 1)
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return [float(edge) for edge in edges], [int(count) for count in counts]
