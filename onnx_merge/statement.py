"""What a model states of itself: what was measured, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_merge import __version__
from onnx_merge.provenance import Provenance, lineage
from onnx_merge.recorded_options import base_name
from onnx_merge.result import Accuracy, finite
from onnx_merge.source import Source

if TYPE_CHECKING:
    from onnx_merge.compare import Comparison
    from onnx_merge.parity import Fidelity

DIGITS = 4
"""Of a number that is stated: the last of those that were measured depend on how many threads there were."""
NOISE = 1e-9
"""Below it, a share of variance is rounding, and is stated as 0."""


def statement(
    source: Source,
    options: Mapping[str, object],
    comparison: Comparison,
    close: Fidelity | None,
    accuracy: Accuracy | None,
) -> Provenance:
    """The provenance of a result of ``source``; ``options`` are those of `onnx_merge.recorded_options.recorded`."""
    measured: dict[str, object] = {"provider": comparison.provider.name}
    if close is not None:
        measured["fidelity"] = finite(
            {
                "cosine": stated(close.cosine),
                "relative_l2": stated(close.relative_l2),
                "top1_agreement": stated(close.top1_agreement),
                "samples": close.samples,
                "source": _without_folder(close.source),
                "sha256": comparison.compared,
            }
        )
    if accuracy is not None:
        measured["accuracy"] = {"before": accuracy.before, "after": accuracy.after, "samples": accuracy.samples}
    return Provenance(__version__, source.info.sha256, source.data_sha256, lineage(source.model), options, measured)


def stated(value: float | None) -> float | None:
    """``value`` to as many digits as are stated."""
    return None if value is None else 0.0 if abs(value) < NOISE else float(f"{value:.{DIGITS}g}")


def _without_folder(source: str) -> str:
    """What the samples are, without the folder of their file: ``labels test.npz``."""
    kind, space, path = source.partition(" ")
    return f"{kind}{space}{base_name(path)}" if space else base_name(source)
