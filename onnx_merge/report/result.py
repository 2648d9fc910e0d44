"""What came of a run, and its JSON form, whose keys are stable: pipelines read them."""

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

if TYPE_CHECKING:  # the report of a run needs no compiler
    from onnx_merge.evaluation.drop_bounds import Promise
    from onnx_merge.evaluation.verdict import Fidelity
    from onnx_merge.latency.measure import Latency
    from passes.cost.cost import Cost
    from passes.planning.plan import GroupPlan

SCHEMA_VERSION = 1
"""Of the JSON reports, as ``report.schema.json`` describes them: rises where a key goes or means something else."""
Status = Literal["shrunk", "kept", "frozen", "excluded"]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What happened to one channel group."""

    name: str
    """Of the first layer that produces the channels."""
    size: int
    """Channels before."""
    kept: int
    """Channels after."""
    status: Status
    reason: Reason | None
    """Why the group was left whole, or less was done than asked for."""
    method: str
    """merge, prune, lossless, or none."""
    error: float | None
    """Relative error of the reconstruction; None for methods that look at weights only."""
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllocationResult:
    """How a budget was spread over the groups."""

    method: str
    """auto or uniform."""
    block: int
    """Channels that widths are multiples of."""
    strict: bool
    """Whether that holds for narrow groups too."""
    reason: str
    """Why this block."""
    predicted_loss: float | None
    """Share of the outputs' variance, as measured group by group before layers are solved; None where not measured."""
    unaligned_loss: float | None
    """The same with any widths: what alignment costs."""


@dataclass(frozen=True)
class Result:
    """All that a run found out. ``seconds`` are by stage, in the order they ran, with their ``total``."""

    version: str
    input: FileInfo
    output: FileInfo
    before: Cost
    after: Cost
    fidelity: Fidelity | None
    """None if the models could not be run; ``notes`` say why."""
    accuracy: Accuracy | None
    """None without labels."""
    allocation: AllocationResult | None
    """None where no channel was to be lost."""
    ware: float | None
    """Weighted average reconstruction error of the layers that were solved for (see
    `passes.surgery.apply_plan.Solution`)."""
    groups: tuple[GroupResult, ...]
    seconds: Mapping[str, float]
    seed: int
    argv: tuple[str, ...]
    """Arguments of the command line; empty for a call from Python."""
    provider: str
    """Where the models ran."""
    unfolded: Mapping[str, Reason]
    """BatchNormalization nodes that could not be folded into a layer -> why."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""
    latency: tuple[Latency, ...] = ()
    """One for each batch size at which it was measured; none if nobody asked, or it could not be (see ``notes``)."""
    metric: Measured | None = None
    """None if nobody asked for one."""
    promise: Promise | None = None
    """With ``confidence``: what is promised of other samples."""
    chosen: str | None = None
    """The option that was taken where none said how much may go."""
    doubts: tuple[str, ...] = ()
    """What the samples leave unknown: a line each, about them."""

    def to_dict(self) -> dict[str, object]:
        """As JSON has it: plain types, no NaN and no infinity (null instead)."""
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
        }
        return {key: finite(value) for key, value in table.items()}

    def to_json(self) -> str:
        """The report, as text that ends in a line break."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def fidelity_table(close: Fidelity | None) -> dict[str, object]:
    """As JSON has it; what was not compared was not tested."""
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
    """As JSON has it: the first batch size, and all of them under ``batches``."""
    batches: list[object] = [latency.to_dict() for latency in measured]
    return {**measured[0].to_dict(), "batches": batches} if measured else None


def cost_table(cost: Cost) -> dict[str, object]:
    """As JSON has it."""
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bytes": cost.bytes,
        "nodes": cost.nodes,
        "ops": dict(cost.ops),
    }


def finite(value: object) -> object:
    """``value`` with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def group_results(plans: Sequence[GroupPlan], excluded: Mapping[str, Reason]) -> tuple[GroupResult, ...]:
    """One entry for each plan. ``excluded``: names of groups that the user took out."""
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
    """What can be written as JSON."""

    def to_json(self) -> str:
        """All of it."""


def write_report(report: Report, path: Path) -> None:
    """Write a JSON report to ``path``: all of it or nothing.

    Raises
    ------
    OnnxMergeError: the file cannot be written.
    """
    content = report.to_json().encode("utf-8", "backslashreplace")  # names with lone surrogates
    write_whole(content, path, "the report")
