"""Options of single commands, and the options of a compression that the other commands accept."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx_merge.config.amount_options import AmountOptions
from onnx_merge.config.definition import FILES, HOW_MUCH, option, options_of
from onnx_merge.config.value_kinds import JSON_FILE, NUMBER, TEXT, WHOLE

SIZES, WHERE = "sizes", "where the models are made"
AS_JSON = option(
    FILES,
    JSON_FILE,
    "FILE",
    "all of it as JSON, to FILE or standard output",
    "Print all of it as JSON instead of the table; with FILE, which stands after it, write it beside the table. Its "
    "keys are [below](#keys-of-the-json-reports).",
)


@dataclass(frozen=True)
class ConfigOptions:
    """Options of the commands that compress."""

    config: str | None = field(
        default=None,
        metadata=option(
            FILES,
            TEXT,
            "TOML",
            "read options from a file; those given here win",
            "Read options from a file. Its keys are the options' names without dashes in front, and `[keep-layer]` is "
            "a table. Options on the command line win.",
        ),
    )


@dataclass(frozen=True)
class SweepOptions:
    """Options of ``onnx-merge sweep`` and of `onnx_merge.sweep`."""

    output: str | None = field(
        default=None,
        metadata=option(SIZES, TEXT, "FOLDER", "where models and reports go", short="o"),
    )
    start: float = field(
        default=0.3,
        metadata=option(SIZES, NUMBER, "R", "smallest share kept, as --keep ({default})", name="from"),
    )
    stop: float = field(
        default=0.9,
        metadata=option(SIZES, NUMBER, "R", "largest share kept ({default})", name="to"),
    )
    steps: int = field(
        default=7,
        metadata=option(SIZES, WHOLE, "N", "number of shares, both ends included ({default})"),
    )
    jobs: int = field(
        default=1,
        metadata=option(WHERE, WHOLE, "N", "processes side by side, which share the cores ({default})"),
    )
    scheduler: str | None = field(
        default=None,
        metadata=option(WHERE, TEXT, "ADDRESS", "workers of a Dask cluster instead, at tcp://HOST:PORT"),
    )


@dataclass(frozen=True)
class InspectOptions:
    """Options of ``onnx-merge inspect``."""

    group: str | None = field(
        default=None,
        metadata=option(HOW_MUCH, TEXT, "REGEX", "all members of groups whose name or a producer's matches"),
    )
    json: str | None = field(default=None, metadata=AS_JSON)


@dataclass(frozen=True)
class VerifyOptions:
    """Options of ``onnx-merge verify``."""

    against: str | None = field(
        default=None,
        metadata=option(HOW_MUCH, TEXT, "IN", "the model that it was made from"),
    )
    json: str | None = field(default=None, metadata=AS_JSON)


NOT_OF_SWEEP = {option.field for option in options_of(AmountOptions)}.union(
    ("gate", "report", "dry_run", "html_samples", "save_plan")
)
"""Options of a compression that a sweep sets itself."""
OF_INSPECT = {
    "input_shape": "to look at, e.g. input:1,3,224,224",
    "fix_shape": "",
    "fix_input": "make an input a constant, e.g. rate=16000",
    "custom_ops": "",
    "html": "",
    "force": "replace files that exist",
    "quiet": "",
    "verbose": "shorten nothing; tracebacks too",
}
"""Options of a compression that an inspection accepts -> help line, if it differs from the definition's."""
OF_VERIFY = {
    "calib": "samples without labels, as they were given",
    "labels": "samples with labels",
    "metric": "the metric that the file speaks of",
    "input_range": "of images, if not as recorded",
    "mean": "the same",
    "std": "the same",
    "layout": "the same",
    "input_shape": "to run at, if not as recorded",
    "fix_input": "if it was fixed to a file's content",
    "check_n": "of other samples, how many (all)",
    "provider": "",
    "custom_ops": "",
    "force": "replace FILE if it exists",
    "quiet": "",
    "verbose": "shorten nothing; tracebacks too",
}
"""Options of a compression that a verification accepts -> help line, if it differs from the definition's."""
