"""The parts that JSON reports have in common, as JSON types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from onnx_merge.report.sample_differences import differences_table

if TYPE_CHECKING:  # avoids importing the compiler (numba) for a report
    from onnx_merge.evaluation.verdict import Fidelity
    from onnx_merge.latency.measure import Latency
    from passes.analysis.layer_widths import LayerWidth
    from passes.cost.cost import Cost

SCHEMA_VERSION = 1
"""Version of the JSON reports, described by ``report.schema.json``. It rises if a key is removed or changes meaning."""


def fidelity_table(close: Fidelity | None) -> dict[str, object]:
    """Return the comparison as JSON types; outputs that were not compared count as not tested."""
    outputs: list[object] = [
        {
            "name": output.name,
            "nsr": output.nsr,
            "kl": output.kl,
            "changed": output.changed,
            "changed_low": output.changed_low,
            "changed_high": output.changed_high,
            "tested": output.tested,
            "reason": output.reason,
            "class_changes": [{"from": old, "to": new, "count": count} for old, new, count in output.moves],
        }
        for output in (close.outputs if close else ())
    ]
    return {
        "verdict": close.verdict if close else "untested",
        "why": close.why if close else "unverified: the outputs were not compared",
        "outputs": outputs,
        "cosine": close.cosine if close else None,
        "relative_l2": close.relative_l2 if close else None,
        "top1_agreement": close.top1_agreement if close else None,
        "samples": close.samples if close else 0,
        "held_out": close.held_out if close else 0,
        "fitted": close.fitted if close else None,
        "fitted_made_up": close.fitted_made_up if close else False,
        "in_sample": close.in_sample if close else False,
        "real": close.real if close else False,
        "source": close.source if close else None,
        "differences": differences_table(close),
    }


def layer_tables(layers: Sequence[LayerWidth]) -> list[object]:
    """Return the layers as JSON types."""
    return [asdict(layer) for layer in layers]


def latency_table(measured: Sequence[Latency]) -> dict[str, object] | None:
    """Return the latency as JSON types: that of the first batch size, and all of them under ``batches``."""
    batches: list[object] = [latency.to_dict() for latency in measured]
    return {**measured[0].to_dict(), "batches": batches} if measured else None


def cost_table(cost: Cost) -> dict[str, object]:
    """Return the cost as JSON types."""
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bytes": cost.bytes,
        "nodes": cost.nodes,
        "ops": dict(cost.ops),
    }


def finite(value: object) -> object:
    """Return ``value`` with null in place of numbers that JSON cannot express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def json_text(table: Mapping[str, object], ascii_only: bool = False) -> str:
    """Return a report as JSON text that ends in a line break; with ``ascii_only`` as text that any stream can write."""
    return json.dumps(table, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"
