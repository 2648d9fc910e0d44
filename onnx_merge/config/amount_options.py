"""Options that set how much is removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnx_merge.config.definition import HOW_MUCH, option
from onnx_merge.config.limits import Limits
from onnx_merge.config.value_kinds import FILE, FLAG, NUMBER

BUDGETS = ("keep", "target_macs", "target_params", "target_latency", "max_drop", "plan")
"""Options of which at most one may be given."""
AMOUNTS = (*BUDGETS, "keep_layer", "lossless")
"""Options that set how much is removed. One on the command line replaces all those of the configuration file."""
TARGET = Limits(0, 1, above=True, hint="; 0.5 leaves half")


@dataclass(frozen=True)
class AmountOptions:
    """How much is removed."""

    keep: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "R",
            "leave the MACs of this share of channels",
            "Leave as many multiply-adds as if every group kept a share R of its channels. `--allocation uniform` "
            "keeps that share in every group. 1 writes the model as it is, and compares it.",
            limits=Limits(0, 1, above=True, hint="; 0.6 is 60%"),
        ),
    )
    target_macs: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "R",
            "share of the MACs to leave, within 1%",
            "Leave that share of the multiply-adds, within 1%. Exit 4 names the nearest if nothing comes so near.",
            limits=TARGET,
        ),
    )
    target_params: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "R",
            "share of the parameters to leave, within 1%",
            "Leave that share of the parameters, within 1%. Exit 4 names the nearest if nothing comes so near.",
            limits=TARGET,
        ),
    )
    target_latency: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "R",
            "share of the latency to leave at most, measured here",
            "Leave at most that share of the latency, measured here with the provider at hand at batch size 1.",
            limits=TARGET,
        ),
    )
    max_drop: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "PCT",
            "smallest model that loses at most PCT points",
            "Look for the smallest model that loses at most so many points of accuracy (`--labels`). Without labels, "
            "one that changes the class of at most so many percent of the samples; where outputs are no classes, one "
            "that has at most so many percent of noise over signal; with `--metric`, one that loses at most so many of "
            "its units. Half of the samples is held out: layers are solved on one half, the loss is measured on the "
            "other, which chooses the size.",
        ),
    )
    confidence: float | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            NUMBER,
            "P",
            "promise --max-drop of other samples, e.g. 0.95",
            "With `--max-drop`: with at least this probability, above 0 and below 1, the model loses no more than PCT "
            "on other samples like those held out. Sizes are tested from the largest down on these (Learn then Test, "
            "Angelopoulos et al. 2021). They are the `--labels`, but half of them where there are no others to fit "
            "layers to; or else half of `--calib`, or all that are not needed to fit to, of which up to 4,096 more are "
            "read. Too few samples: exit 4, saying how many would do.",
        ),
    )
    plan: Path | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            FILE,
            "JSON",
            "keep the channels that --save-plan wrote",
            "Keep the channels that `--save-plan` wrote in an earlier run, on this model or another one of the same "
            "architecture, such as the next checkpoint. Layers are solved anew.",
        ),
    )
    lossless: bool = field(
        default=False,
        metadata=option(
            HOW_MUCH,
            FLAG,
            "",
            "remove only what costs nothing",
            "Remove only what costs nothing on any input: dead, constant and parallel channels. The result is compared "
            "with the original before anything is written.",
        ),
    )
