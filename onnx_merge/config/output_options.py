"""Options of the files that are written and of the printed messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnx_merge.config.definition import FILES, HOW, option
from onnx_merge.config.value_kinds import FILE, FLAG, TEXT

NUMBER_FORMATS = ("int8", "int8-dynamic", "fp16")
"""Formats of `onnx_merge.runtime.number_formats`."""


@dataclass(frozen=True)
class OutputOptions:
    """Files and messages."""

    then: str | None = field(
        default=None,
        metadata=option(
            HOW,
            TEXT,
            "",
            "number format of the result",
            "Convert the result to another number format with onnxruntime's tools. All checks are of the converted "
            "file. `int8`: weights and activations, with scales from the samples. `int8-dynamic`: weights of matrix "
            "products and LSTMs, without samples. `fp16`: half precision, for devices that compute in it.",
            choices=NUMBER_FORMATS,
        ),
    )
    report: Path | None = field(
        default=None,
        metadata=option(
            FILES,
            FILE,
            "JSON",
            "write all numbers to a file",
            "Write all numbers to a file. Its keys are [below](#keys-of-the-json-reports).",
        ),
    )
    save_plan: Path | None = field(
        default=None,
        metadata=option(
            FILES,
            FILE,
            "JSON",
            "write which channels stay, for --plan",
            "Write which channels of every group stay, as `--plan` takes it.",
        ),
    )
    provenance: bool = field(
        default=True,
        metadata=option(
            FILES,
            FLAG,
            "",
            "leave no record of the run in the model",
            "Leave out of the file's metadata what it was made from, how, and what was measured on what.",
        ),
    )
    dry_run: bool = field(
        default=False,
        metadata=option(FILES, FLAG, "", "do everything but write the model"),
    )
    force: bool = field(
        default=False,
        metadata=option(FILES, FLAG, "", "replace files that exist"),
    )
    quiet: bool = field(
        default=False,
        metadata=option(
            FILES,
            FLAG,
            "",
            "print nothing but errors",
            "Print nothing but errors. From Python it has no effect.",
            short="q",
        ),
    )
    verbose: bool = field(
        default=False,
        metadata=option(
            FILES,
            FLAG,
            "",
            "print more",
            "Print more; of an internal error, the traceback. From Python it has no effect.",
            short="v",
        ),
    )
