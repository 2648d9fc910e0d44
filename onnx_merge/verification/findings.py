"""What a verification found: whether a model keeps what its metadata say, as a table with stable keys."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from onnx_merge.io.model_source import FileInfo
from onnx_merge.report.result import SCHEMA_VERSION, finite


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity: what the file states, and what was found. Intervals hold at 95%; None where there are none."""

    quantity: str
    """input, nsr, kl, changed, constant, relative error, accuracy drop, or the metric's name with drop."""
    output: str | None = None
    """Of the model, if the quantity is of one."""
    stated: float | None = None
    stated_low: float | None = None
    stated_high: float | None = None
    found: float | None = None
    found_low: float | None = None
    found_high: float | None = None
    allowed: float | None = None
    """The largest that would have kept it."""
    keeps: bool = True
    reason: str | None = None
    """Why not."""


@dataclass(frozen=True)
class Verification:
    """All that was found out; nothing was measured where the models are not those that belong together."""

    version: str
    """Of what verified."""
    made_by: str
    """Version of what made the file, as it says itself."""
    output: FileInfo
    against: FileInfo
    checks: tuple[Check, ...]
    samples: int = 0
    """On which outputs were compared."""
    source: str | None = None
    """What the samples are."""
    same_samples: bool = False
    """Whether they are those that the file speaks of, bit by bit: then only rounding may differ, else chance too."""
    provider: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether the file keeps what it says."""
        return all(check.keeps for check in self.checks)

    @property
    def reason(self) -> str | None:
        """What it does not keep, in one line."""
        return "; ".join(check.reason for check in self.checks if check.reason) or None

    def to_dict(self) -> dict[str, object]:
        """As JSON has it: plain types, no NaN and no infinity (null instead)."""
        table: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "version": self.version,
            "made_by": self.made_by,
            "output": {"path": self.output.path, "sha256": self.output.sha256},
            "against": {"path": self.against.path, "sha256": self.against.sha256},
            "keeps": self.keeps,
            "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
            "samples": self.samples,
            "source": self.source,
            "same_samples": self.same_samples,
            "provider": self.provider,
            "notes": list(self.notes),
        }
        return {key: finite(value) for key, value in table.items()}

    def to_json(self) -> str:
        """The report, as text that ends in a line break."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
