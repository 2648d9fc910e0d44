"""Options that set which channels may be removed, how they are chosen, and how their contribution is compensated."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx_merge.config.definition import HOW, HOW_MUCH, option
from onnx_merge.config.limits import Limits
from onnx_merge.config.value_kinds import ALIGN, FLAG, NUMBER, PATTERNS, RATIOS, TEXT

SELECT = ("auto", "l1", "l2", "gm", "reprune", "reprune-kernel")


@dataclass(frozen=True)
class ChannelOptions:
    """Choice of channels and method of removal."""

    method: str = field(
        default="auto",
        metadata=option(
            HOW,
            TEXT,
            "",
            "of removed channels ({default})",
            "What becomes of removed channels. `merge`: they go into those that stay; `prune`: they are dropped; "
            "`reconstruct`: the layers that read them are solved anew on samples.",
            choices=("auto", "merge", "prune", "reconstruct"),
            shown="auto: reconstruct",
        ),
    )
    select: str = field(
        default="auto",
        metadata=option(
            HOW,
            TEXT,
            "CRITERION",
            f"which channels stay: {', '.join(SELECT)} (auto)",
            f"Criterion for the channels that stay: `{'`, `'.join(SELECT)}`.",
            choices=SELECT,
            shown="auto: by reconstruction, else l1",
        ),
    )
    effort: str = field(
        default="medium",
        metadata=option(
            HOW,
            TEXT,
            "",
            "time spent on the weights that stay ({default})",
            "Time spent on the weights that stay, where layers are solved on samples. `low`: one layer after the "
            "other; `medium`: then all together, by gradient steps towards the original's outputs and features; "
            "`high`: more steps. Samples that are made up are moved by more steps, too.",
            choices=("low", "medium", "high"),
        ),
    )
    allocation: str = field(
        default="auto",
        metadata=option(
            HOW_MUCH,
            TEXT,
            "",
            "how the budget is spread over the groups ({default})",
            "How the budget is spread. `auto`: so that the outputs lose least; `uniform`: every group keeps the same "
            "share.",
            choices=("auto", "uniform"),
        ),
    )
    align: str | int | None = field(
        default=None,
        metadata=option(
            HOW_MUCH,
            ALIGN,
            "auto|N",
            "channels that widths are multiples of (auto)",
            "Widths are multiples of N. `auto`: multiples of the block of channels that the provider's kernels compute "
            "together, or of a smaller block in narrow groups and where the larger one would lose too much.",
            shown="auto; 1 with uniform",
            limits=Limits(1, wording="at least 1 channel"),
        ),
    )
    lambda_: float = field(
        default=0.85,
        metadata=option(
            HOW,
            NUMBER,
            "X",
            "weight of cosine distance against bias distance ({default})",
            "For `--method merge`: weight of the cosine distance against the bias distance, 0 to 1.",
            limits=Limits(0, 1),
        ),
    )
    threshold: float = field(
        default=0.1,
        metadata=option(
            HOW,
            NUMBER,
            "X",
            "smallest cosine at which channels merge ({default})",
            "For `--method merge`: smallest cosine, -1 to 1, at which a channel is merged rather than dropped.",
            limits=Limits(-1, 1),
        ),
    )
    coupled: bool = field(
        default=True,
        metadata=option(
            HOW_MUCH,
            FLAG,
            "",
            "leave channels whole that several layers share",
            "Leave channels whole that several layers share (residual streams, concats).",
        ),
    )
    exclude: tuple[str, ...] = field(
        default=(),
        metadata=option(
            HOW_MUCH,
            PATTERNS,
            "REGEX",
            "layers whose outputs to leave whole",
            "Regular expressions for layers whose outputs stay whole.",
        ),
    )
    exclude_inputs: tuple[str, ...] = field(
        default=(),
        metadata=option(
            HOW_MUCH,
            PATTERNS,
            "REGEX",
            "layers whose inputs to leave whole",
            "Regular expressions for layers whose inputs stay whole.",
        ),
    )
    keep_layer: tuple[tuple[str, float], ...] = field(
        default=(),
        metadata=option(
            HOW_MUCH,
            RATIOS,
            "REGEX=R",
            "another share for some layers",
            "Another share than `--keep` for the groups one of whose producing layers matches; the first match holds.",
        ),
    )
