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
    html: Path | None = field(
        default=None,
        metadata=option(
            FILES,
            FILE,
            "PAGE",
            "write a report to open in a browser",
            "Write a report as an HTML page that loads nothing from the network; "
            "[html-report.md](html-report.md) explains it.",
        ),
    )
    html_samples: bool = field(
        default=False,
        metadata=option(
            FILES,
            FLAG,
            "",
            "show the worst samples in it as pictures",
            "Show the samples whose outputs differ most in the page, as pictures, where they are images. Without it, "
            "nothing of the samples is in any report, since they may be private.",
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
    save_as_external_data: bool = field(
        default=False,
        metadata=option(
            FILES,
            FLAG,
            "",
            "keep the weights in a file beside OUT",
            "Keep the large weights in a file beside the model, as ONNX's external data; tensors under 1 KB stay in "
            "the model. Models over 2 GB are always written so.",
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
