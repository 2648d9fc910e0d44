"""Writes JSON reports atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from onnx_merge.io.save import write_whole


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
