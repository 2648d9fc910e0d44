"""Options that set how a result is compared with its original, and when it is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_merge.config.definition import CHECKS, FILES, option
from onnx_merge.config.limits import Limits
from onnx_merge.config.option_parsing import METRICS
from onnx_merge.config.value_kinds import BATCHES, FLAG, METRIC, NUMBER, WHOLE
from onnx_merge.tuning.runtime import DEVICE

COMPARED_SAMPLES, MADE_UP_SAMPLES = 256, 64
"""Numbers of samples on which outputs are compared by default: of the user's, and made-up ones."""


@dataclass(frozen=True)
class CheckOptions:
    """Comparison of outputs, limits of the loss, and measurement of latency."""

    check_n: int | None = field(
        default=None,
        metadata=option(
            CHECKS,
            WHOLE,
            "N",
            f"samples to compare outputs on ({COMPARED_SAMPLES}; {MADE_UP_SAMPLES} made-up)",
            "Samples to compare outputs on, at most: of those held out, or made up.",
            shown=f"{COMPARED_SAMPLES} of yours, {MADE_UP_SAMPLES} made-up",
            limits=Limits(1, wording="at least 1 sample"),
        ),
    )
    min_cosine: float | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBER,
            "X",
            "fail if outputs are farther off, -1 to 1",
            "Exit 3 if the mean cosine between the outputs before and after is below X.",
            limits=Limits(-1, 1),
        ),
    )
    min_top1: float | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBER,
            "X",
            "fail if fewer samples keep their class, 0 to 1",
            "Exit 3 if a smaller share of the samples keeps its top class.",
            limits=Limits(0, 1, hint="; 0.98 lets 2% of the samples change class"),
        ),
    )
    metric: Any = field(
        default=None,
        metadata=option(
            CHECKS,
            METRIC,
            "WHAT",
            "judge by this measure: see below",
            "A measure that results are judged by, higher being better: "
            f"`{'`, `'.join(METRICS)}`, or `FILE.py:FUNCTION`, a function of (predict, samples, labels) that returns a "
            "number; from Python also the function. See [metric.md](metric.md).",
        ),
    )
    min_metric: float | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBER,
            "X",
            "fail if the result's metric is below it",
            "Exit 3 if the result's `--metric` is below X.",
        ),
    )
    max_nsr: float | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBER,
            "X",
            "fail if an output has more noise over signal",
            "Exit 3 if an output has more noise over signal: the squared error over the variance of the original's.",
            limits=Limits(0, math.inf),
        ),
    )
    max_kl: float | None = field(
        default=None,
        metadata=option(
            CHECKS,
            NUMBER,
            "X",
            "fail if classes diverge by more nats",
            "Exit 3 if the Kullback-Leibler divergence of an output's classes from the original's is more nats.",
            limits=Limits(0, math.inf),
        ),
    )
    gate: bool = field(
        default=True,
        metadata=option(
            FILES,
            FLAG,
            "",
            "write OUT though the verdict is bad",
            "Write the model under its own name, exit 0, although the verdict is `bad` on your samples; limits that "
            "you set hold all the same.",
        ),
    )
    benchmark: tuple[int, ...] | None = field(
        default=None,
        metadata=option(
            CHECKS,
            BATCHES,
            "N,N",
            "measure latency, at these batch sizes ({default})",
            "Measure latency before and after, the two models in turns, at these batch sizes (others than 1 where the "
            "batch is dynamic). In a file and from Python it is a list, or true for the default.",
            shown=f"1; {','.join(map(str, DEVICE.latency_batches))} on a GPU",
            limits=Limits(1, wording="batch sizes of at least 1"),
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=option(
            CHECKS,
            WHOLE,
            "N",
            "threads where latency is measured ({default})",
            "Number of threads within an operator, where latency is measured (`--benchmark`, `--target-latency`). The "
            "benchmark's line in the output says how many there were.",
            shown="onnxruntime's choice",
            limits=Limits(1),
        ),
    )

    @property
    def compared_samples(self) -> int:
        """Largest number of the user's samples on which outputs are compared."""
        return COMPARED_SAMPLES if self.check_n is None else self.check_n

    @property
    def made_up_samples(self) -> int:
        """Largest number of made-up samples on which outputs are compared."""
        return MADE_UP_SAMPLES if self.check_n is None else self.check_n

    @property
    def metric_file(self) -> Path | None:
        """The file that ``metric`` names, or None."""
        path, _, _ = self.metric.rpartition(":") if isinstance(self.metric, str) else ("", "", "")
        return Path(path) if path else None

    @property
    def limits(self) -> tuple[str, ...]:
        """The options by which the user set a limit that the result can violate."""
        names = ("min_cosine", "min_top1", "max_nsr", "max_kl", "min_metric")
        return tuple("--" + name.replace("_", "-") for name in names if getattr(self, name) is not None)

    @property
    def has_gate(self) -> bool:
        """Whether the user set a limit that the result can violate."""
        return bool(self.limits)
