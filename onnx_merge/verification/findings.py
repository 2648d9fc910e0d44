"""Result of a verification: whether a model agrees with its metadata, as a table with stable keys."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from onnx_merge.io.model_source import FileInfo
from onnx_merge.report.json_tables import SCHEMA_VERSION, finite, json_text


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity: the stated and the measured value. Intervals are at 95%, or None."""

    quantity: str
    """input, nsr, kl, changed, constant, relative error, accuracy drop, or the metric's name with drop."""
    output: str | None = None
    """Name of the model's output, if the quantity belongs to one."""
    stated: float | None = None
    stated_low: float | None = None
    stated_high: float | None = None
    found: float | None = None
    found_low: float | None = None
    found_high: float | None = None
    allowed: float | None = None
    """Largest value that passes the check."""
    keeps: bool = True
    reason: str | None = None
    """Why the check failed."""


@dataclass(frozen=True)
class Verification:
    """All findings. If the two models do not belong together, nothing is measured."""

    version: str
    """Version of the program that verified."""
    made_by: str
    """Version of the program that made the file, as its metadata say."""
    output: FileInfo
    against: FileInfo
    checks: tuple[Check, ...]
    samples: int = 0
    """Number of samples on which outputs were compared."""
    source: str | None = None
    """Description of the samples."""
    same_samples: bool = False
    """Whether they are, bit by bit, the samples of the statement. Then only rounding may differ, otherwise chance
    too."""
    provider: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether the file agrees with its metadata."""
        return all(check.keeps for check in self.checks)

    @property
    def reason(self) -> str | None:
        """The checks that failed, in one line."""
        return "; ".join(check.reason for check in self.checks if check.reason) or None

    def to_dict(self) -> dict[str, object]:
        """Return the findings as JSON types only; null in place of NaN and infinities."""
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
        """Return the report as plain ASCII text that ends in a line break, which any stream can write."""
        return json_text(self.to_dict(), ascii_only=True)
