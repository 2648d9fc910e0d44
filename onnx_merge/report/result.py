"""The result of a run, and its JSON form. The JSON keys are stable, because pipelines read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onnx_merge.errors import UsageError
from onnx_merge.evaluation.fidelity import Accuracy
from onnx_merge.html.rendering import write_page
from onnx_merge.html.run_page import run_card, run_page
from onnx_merge.io.model_source import FileInfo
from onnx_merge.io.save import check_destination, save_atomically, write_whole
from onnx_merge.metrics.measure import Measured
from onnx_merge.report.environment import environment
from onnx_merge.report.group_result import GroupResult
from onnx_merge.report.json_tables import (
    SCHEMA_VERSION,
    cost_table,
    fidelity_table,
    finite,
    json_text,
    latency_table,
    layer_tables,
)
from passes.interface.reason import Reason, text

if TYPE_CHECKING:  # avoids importing the compiler (numba) for a report
    import onnx

    from onnx_merge.evaluation.drop_bounds import Promise
    from onnx_merge.evaluation.verdict import Fidelity
    from onnx_merge.latency.measure import Latency
    from passes.analysis.layer_widths import LayerWidth
    from passes.cost.cost import Cost


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
    """Noise over signal of the outputs, summed over the groups, each cut alone before layers are solved; it can exceed
    1. None where not measured."""
    unaligned_loss: float | None
    """``predicted_loss`` of the widths without alignment; the difference is what alignment costs."""


@dataclass(frozen=True, slots=True)
class FormatResult:
    """A model that is compared where ``then`` was given: the original, each of the two steps alone, and the result."""

    name: str
    bytes: int
    """Size of the model as a file, in bytes."""
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
    missed: str | None = None
    """The limit that the result missed, if it was rejected."""
    layers: tuple[LayerWidth, ...] = ()
    """Layers in graph order, with their channels and multiply-adds before and after."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Options that differ from their defaults, by long name, without folders of files."""
    samples_sha256: str | None = None
    """Hash of the samples that outputs were compared on (see `onnx_merge.io.hashes.sha256_of_arrays`)."""
    environment: Mapping[str, str] = field(default_factory=environment)
    """Versions of the software, and the machine."""
    model: onnx.ModelProto | None = field(default=None, compare=False, repr=False)
    """The compressed model."""
    pictures: Mapping[int, str] = field(default_factory=dict, compare=False, repr=False)
    """With ``html_samples``: pictures of the worst samples, as data URIs, by their index. No report holds them."""

    @property
    def report(self) -> dict[str, object]:
        """The report as JSON types, see `to_dict`."""
        return self.to_dict()

    def html(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the report as an HTML page that loads nothing, atomically, and return its path.

        Parameters
        ----------
        path: file to write.
        force: whether a file that exists is replaced.

        Raises
        ------
        UsageError: the file cannot be written to, or exists.
        OnnxMergeError: writing fails.
        """
        target = self._target(path, force)
        write_page(run_page(self.to_dict(), self.pictures), target)
        return target

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the compressed model (``.onnx``), or the report as JSON (``.json``) or as a page (``.html``), by the
        end of the file's name, atomically. Returns the path.

        Parameters
        ----------
        path: file to write.
        force: whether a file that exists is replaced.

        Raises
        ------
        UsageError: the name ends in something else, or the file cannot be written to, or exists.
        OnnxMergeError: writing fails.
        """
        ending = Path(path).suffix.lower()
        if ending == ".html":
            return self.html(path, force=force)
        if ending not in (".onnx", ".json"):
            raise UsageError(f"{path}: end the name in .onnx for the model, or in .json or .html for the report")
        target = self._target(path, force)
        if ending == ".json":
            write_report(self, target)
        elif self.model is None:
            raise UsageError(f"{path} cannot be written: this result holds no model")
        else:
            save_atomically(self.model, target)
        return target

    def _target(self, path: str | os.PathLike[str], force: bool) -> Path:
        check_destination(self.input.path or os.devnull, path, force)
        return Path(path)

    def _repr_html_(self) -> str:
        """The main figures and the groups, for notebooks."""
        return run_card(self.to_dict())

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
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
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
                    "losses": [{"channels": width, "nsr": loss} for width, loss in group.losses],
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
            "missed": self.missed,
            "layers": layer_tables(self.layers),
            "options": dict(self.options),
            "samples_sha256": self.samples_sha256,
            "environment": dict(self.environment),
            "formats": [asdict(one) for one in self.formats],
        }
        return {key: finite(value) for key, value in table.items()}

    def to_json(self) -> str:
        """Return the report as JSON text that ends in a line break."""
        return json_text(self.to_dict())


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
