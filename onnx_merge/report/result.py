"""The result of a run, and its JSON form. The JSON keys are stable, because pipelines read them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.io.model_source import FileInfo
from onnx_merge.io.save import write_whole
from onnx_merge.metrics.measure import Measured
from passes.interface.reason import Reason, text

if TYPE_CHECKING:  # avoids importing the compiler (numba) for a report
    from onnx_merge.evaluation.drop_bounds import Promise
    from onnx_merge.evaluation.verdict import Fidelity
    from onnx_merge.latency.measure import Latency
    from passes.cost.cost import Cost
    from passes.planning.plan import GroupPlan

SCHEMA_VERSION = 1
"""Version of the JSON reports, described by ``report.schema.json``. It rises if a key is removed or changes meaning."""
Status = Literal["shrunk", "kept", "frozen", "excluded"]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What happened to one channel group."""

    name: str
    """Name of the first layer that produces the channels."""
    size: int
    """Channels before."""
    kept: int
    """Channels after."""
    status: Status
    reason: Reason | None
    """Why the group was not compressed, or was compressed less than requested."""
    method: str
    """merge, prune, lossless, or none."""
    error: float | None
    """Relative error of the reconstruction; None for methods that look at weights only."""
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllocationResult:
    """How a budget was distributed over the groups."""

    method: str
    """auto or uniform."""
    block: int
    """Channel widths are multiples of this number."""
    strict: bool
    """Whether widths of narrow groups are aligned too."""
    reason: str
    """Why this number was chosen."""
    predicted_loss: float | None
    """Share of the outputs' variance, measured group by group before layers are solved. None where not measured."""
    unaligned_loss: float | None
    """The same without alignment; the difference is what alignment costs."""


@dataclass(frozen=True, slots=True)
class FormatResult:
    """A model that is compared where ``then`` was given: the original, each of the two steps alone, and the result."""

    name: str
    bytes: int
    """Of the model as a file."""
    nsr: float | None
    """Noise over signal, as in `Fidelity`; None if not measured."""
    changed: float | None
    """Share of samples whose class changes; None without classes."""
    accuracy: float | None
    """In percent; None without labels."""
    latency_ms: Mapping[str, float]
    """Batch size -> median of the runs in milliseconds. Empty if it was not measured."""


@dataclass(frozen=True)
class Result:
    """All findings of a run. ``seconds``: by stage, in the order of execution, and their ``total``."""

    version: str
    input: FileInfo
    output: FileInfo
    before: Cost
    after: Cost
    fidelity: Fidelity | None
    """None if the models could not be run; ``notes`` say why."""
    accuracy: Accuracy | None
    """None if there are no labels."""
    allocation: AllocationResult | None
    """None if the run was not supposed to lose channels."""
    ware: float | None
    """Weighted mean of the reconstruction errors of the layers that were solved for (see
    `passes.surgery.apply_plan.Solution`)."""
    groups: tuple[GroupResult, ...]
    seconds: Mapping[str, float]
    seed: int
    argv: tuple[str, ...]
    """Arguments of the command line; empty for a call from Python."""
    provider: str
    """The provider on which the models ran."""
    unfolded: Mapping[str, Reason]
    """BatchNormalization nodes that could not be folded into a layer -> why."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""
    latency: tuple[Latency, ...] = ()
    """One entry per measured batch size. Empty if it was not requested or not possible (see ``notes``)."""
    metric: Measured | None = None
    """None if no metric was requested."""
    promise: Promise | None = None
    """With ``confidence``: the bound that holds for unseen samples."""
    chosen: str | None = None
    """The option that was chosen because no option said how much to remove."""
    doubts: tuple[str, ...] = ()
    """What the samples cannot show about the model: one line each."""
    formats: tuple[FormatResult, ...] = ()
    """With ``then``: the original, the compressed and the converted models side by side."""

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON types only; null in place of NaN and infinities."""
        table: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "input": {"path": self.input.path, "sha256": self.input.sha256},
            "output": {"path": self.output.path, "sha256": self.output.sha256},
            "before": cost_table(self.before),
            "after": cost_table(self.after),
            "fidelity": fidelity_table(self.fidelity),
            "accuracy": {"before": self.accuracy.before, "after": self.accuracy.after} if self.accuracy else None,
            "metric": asdict(self.metric) if self.metric else None,
            "promise": asdict(self.promise) if self.promise else None,
            "latency": latency_table(self.latency),
            "allocation": asdict(self.allocation) if self.allocation else None,
            "ware": self.ware,
            "groups": [
                {
                    "name": group.name,
                    "size": group.size,
                    "kept": group.kept,
                    "status": group.status,
                    "reason": text(group.reason),
                    "method": group.method,
                    "error": group.error,
                    "producers": list(group.producers),
                    "consumers": list(group.consumers),
                }
                for group in self.groups
            ],
            "seconds": {stage: round(seconds, 6) for stage, seconds in self.seconds.items()},
            "seed": self.seed,
            "argv": list(self.argv),
            "provider": self.provider,
            "unfolded": {name: str(reason) for name, reason in self.unfolded.items()},
            "notes": list(self.notes),
            "chosen": self.chosen,
            "doubts": list(self.doubts),
            "formats": [asdict(one) for one in self.formats],
        }
        return {key: finite(value) for key, value in table.items()}

    def to_json(self) -> str:
        """Return the report as JSON text that ends in a line break."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
        "in_sample": close.in_sample if close else False,
        "real": close.real if close else False,
        "source": close.source if close else None,
    }


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


def group_results(plans: Sequence[GroupPlan], excluded: Mapping[str, Reason]) -> tuple[GroupResult, ...]:
    """Return one entry per plan. ``excluded``: group -> reason, for groups that the user excluded."""
    results = []
    for plan in plans:
        group = plan.group
        status: Status = "kept"
        if plan.shrinks:
            status = "shrunk"
        elif group.frozen is not None:
            status = "frozen"
        elif group.name in excluded:
            status = "excluded"
        results.append(
            GroupResult(
                name=group.name,
                size=group.size,
                kept=len(plan.keep),
                status=status,
                reason=plan.reason,
                method=plan.method,
                error=plan.error,
                producers=tuple(group.producers),
                consumers=tuple(group.consumers),
            )
        )
    return tuple(results)


class Report(Protocol):
    """A report that can be written as JSON."""

    def to_json(self) -> str:
        """Return the whole report as JSON text."""


def write_report(report: Report, path: Path) -> None:
    """Write a JSON report to ``path`` atomically.

    Raises
    ------
    OnnxMergeError: the file cannot be written.
    """
    content = report.to_json().encode("utf-8", "backslashreplace")  # names may hold lone surrogates
    write_whole(content, path, "the report")
