"""What a user can ask for: every option with its default, and a one-line refusal of what makes no sense."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from onnx_merge.config.option_parsing import CHOICES, converted, read_toml
from onnx_merge.errors import UsageError

BUDGETS = ("keep", "target_macs", "target_params", "target_latency", "max_drop")
"""Options of which one at most is given."""
AMOUNTS = (*BUDGETS, "keep_layer", "lossless")
"""Options that say how much goes. Whoever gives one on the command line means it instead of what the file says."""

SAFE_DROP = 1.0
"""Points that may be lost on the user's samples, where nobody says how much may go."""
SAMPLES = 256
"""To calibrate on, where nobody says how many."""
CHECKED, MADE = 256, 64
"""To compare outputs on, where nobody says how many: of the user's, and made up."""


@dataclass(frozen=True)
class Options:
    """All options; `Options.make` also converts what command lines, files and callers give.

    Raises
    ------
    UsageError: a value is out of range, or two options contradict each other.
    """

    keep: float | None = None
    """Share of channels that every group keeps, above 0 and at most 1; with allocation auto, what that leaves of the
    multiply-adds is spread over the groups."""
    target_macs: float | None = None
    """Share of the multiply-adds that is to be left, met within 1%."""
    target_params: float | None = None
    """Share of the parameters that is to be left, met within 1%."""
    target_latency: float | None = None
    """Share of the latency that is to be left, as measured here."""
    max_drop: float | None = None
    """What may be lost: the smallest such model is looked for. Points of accuracy with ``labels``, percent of the
    samples whose class changes without; where the outputs are no classes, percent of noise over signal; with
    ``metric`` what that may drop, in its own units."""
    confidence: float | None = None
    """Probability, above 0 and below 1, with which ``max_drop`` is to hold on other samples like those held out. These
    are ``labels``, but half of them where there are no others to fit layers to; or else half of ``calib``, or all that
    are not needed to fit to, of which up to 4,096 more are read."""
    lossless: bool = False
    """Remove only what costs nothing: dead, constant and parallel channels."""
    method: str = "auto"
    """merge: removed channels go into those that stay; prune: they are dropped; reconstruct: the layers that read them
    are solved anew on samples."""
    select: str = "auto"
    """Criterion for the channels that stay."""
    allocation: str = "auto"
    """uniform: every group keeps the same share; auto: the outputs lose least."""
    align: str | int | None = None
    """Channels that widths are to be multiples of; auto: what the provider's kernels work in. By default auto with
    allocation auto, else 1."""
    lambda_: float = 0.85
    """Weight of the cosine distance against the bias distance, 0 to 1 (option name: lambda)."""
    threshold: float = 0.1
    """Smallest cosine, -1 to 1, at which a channel is merged rather than dropped."""
    coupled: bool = True
    """Whether channels that several layers share may be removed."""
    exclude: tuple[str, ...] = ()
    """Regular expressions for layers whose outputs stay whole."""
    exclude_inputs: tuple[str, ...] = ()
    """Regular expressions for layers whose inputs stay whole."""
    keep_layer: tuple[tuple[str, float], ...] = ()
    """(Regular expression, share): other shares than ``keep`` for some layers; the first that matches holds."""
    input_shape: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(Input, shape) at which to sample and check inputs with dynamic dims; they stay dynamic in the result."""
    fix_shape: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(Input, shape) that is declared from then on, in the result too."""
    fix_input: tuple[tuple[str, Any], ...] = ()
    """(Input, value) for inputs that become constants: a number, truth value, list, array, text of numbers with commas
    in between, or the path of an .npy file."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run for the checks."""
    custom_ops: tuple[str, ...] = ()
    """Libraries of operators that onnxruntime does not know: files, or packages that name one (`get_library_path`)."""
    unverified: bool = False
    """Whether a result is written although its outputs could not be compared with the original's."""
    seed: int = 0
    """Of everything random; at least 0."""
    labels: Path | None = None
    """An .npz file of samples with labels: outputs are compared on them, and accuracy is measured."""
    calib: Any = None
    """Samples without labels: the path of a file or folder, ``module.py:function``, arrays or an iterable of them;
    or ``synthetic``, ``none`` or ``auto`` (as None). See `onnx_merge.calibration.load.load_calibration`."""
    calib_samples: int | None = None
    """Number of samples to calibrate on, at most; by default 256, and more made-up ones or mirror images where that is
    few for the model."""
    mean: tuple[float, ...] | None = None
    """Of images for calibration, taken off pixels in 0..1: one for each channel or one for all."""
    std: tuple[float, ...] | None = None
    """By which pixels are divided after that."""
    layout: str = "auto"
    """Of images for calibration: nchw or nhwc; auto: where the channels stand in the model's input."""
    memory_limit: int = 2 * 10**9
    """Bytes that a run may take at its peak, beside what Python and the libraries take, some 500 MB; of a sweep, all
    its processes together. Fewer or smaller samples serve where more do not fit."""
    check_n: int | None = None
    """Number of samples on which outputs are compared, at most; by default 256 of those that were held out, or 64
    made-up ones."""
    min_cosine: float | None = None
    """The gate: smallest mean cosine, -1 to 1, between the outputs before and after."""
    min_top1: float | None = None
    """The gate: smallest share of samples, 0 to 1, whose top class stays the same."""
    metric: Any = None
    """What results are judged by, instead of accuracy or how close outputs are: ``accuracy``, ``top5``,
    ``neg-cross-entropy``, ``psnr``, ``r2``, ``module.py:function``, or a function of (predict, samples, labels) that
    returns a number, higher being better. See `onnx_merge.metrics.metric`."""
    min_metric: float | None = None
    """The gate: smallest value of ``metric`` that the result may have."""
    max_nsr: float | None = None
    """The gate: largest noise over signal of an output, at least 0; see `passes.numerics.noise_to_signal`."""
    max_kl: float | None = None
    """The gate: largest Kullback-Leibler divergence of an output's classes from the original's, in nats, at least 0."""
    gate: bool = True
    """Whether a result is refused that is bad on the user's own samples; limits that the user sets hold either way."""
    benchmark: tuple[int, ...] | None = None
    """Batch sizes at which latency is measured before and after; empty: 1, or the model's fixed one; None: it is not
    measured. Also True for empty and False for None."""
    threads: int | None = None
    """Of the benchmark, within an operator; onnxruntime's choice by default."""
    report: Path | None = None
    """Where the JSON report goes."""
    provenance: bool = True
    """Whether the model's metadata say what it was made from, how, and what was measured on what."""
    dry_run: bool = False
    """Do everything but write the model."""
    force: bool = False
    """Replace files that exist."""
    quiet: bool = False
    """Command line only: print nothing but errors."""
    verbose: bool = False
    """Command line only: print more; of an internal error, the traceback."""

    @classmethod
    def make(cls, values: Mapping[str, object], where: str = "") -> Options:
        """Options from values as people write them; names with ``-`` or ``_``. ``where`` begins error messages."""
        return cls(**converted(values, where))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], overrides: Mapping[str, object] | None = None) -> Options:
        """Options from a configuration file, its keys being the long names of the command line; ``overrides`` win.

        Raises
        ------
        InputError: the file cannot be read.
        UsageError: it is not TOML, has an unknown key or a value of the wrong kind, or see `Options`.
        """
        chosen = converted(overrides or {})
        from_file = converted(read_toml(path), f"{path}: ")
        if any(name in chosen for name in AMOUNTS):
            conflicting = {"lossless"} | {name for name in BUDGETS if any(other in chosen for other in BUDGETS)}
            if chosen.get("lossless"):
                conflicting = {*BUDGETS, "keep_layer"}
            from_file = {name: value for name, value in from_file.items() if name not in conflicting}
            if "max_drop" not in from_file and "max_drop" not in chosen:
                from_file.pop("confidence", None)
        return cls(**{**from_file, **chosen})

    def __post_init__(self) -> None:
        self._check_ranges()
        for expression, ratio in self.keep_layer:
            _in_range(f"the share of keep-layer {expression!r}", ratio, 0, 1, above=True)
        for expression in (*self.exclude, *self.exclude_inputs, *(e for e, _ in self.keep_layer)):
            try:
                re.compile(expression)
            except re.error as error:
                raise UsageError(f"{expression!r} is not a regular expression: {error}") from error
        for option, shapes in (("input-shape", self.input_shape), ("fix-shape", self.fix_shape)):
            for name, shape in shapes:
                if not shape or min(shape) < 1:
                    raise UsageError(f"{option} of {name!r} must be positive sizes, such as 1,3,224,224, not {shape}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        given = [name.replace("_", "-") for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} both say how much goes: give one of them")
        if self.lossless and (given or self.keep_layer):
            other = given[0] if given else "keep-layer"
            raise UsageError(f"lossless removes what is free and nothing else: give either it or {other}")
        if isinstance(self.align, str) and self.align != "auto":
            raise UsageError(f"align must be auto or a number of channels, not {self.align!r}")
        if self.method == "reconstruct" and isinstance(self.calib, str) and self.calib == "none":
            raise UsageError("method reconstruct needs samples: leave out calib none, or ask for method merge")
        if self.max_drop is not None and not self.labels and isinstance(self.calib, str) and self.calib == "none":
            raise UsageError("max-drop is measured on samples: leave out calib none, or give labels")
        if self.min_metric is not None and self.metric is None:
            raise UsageError("min-metric is a limit on metric: give that too, such as accuracy or FILE.py:FUNCTION")
        if self.min_metric is not None and math.isnan(self.min_metric):
            raise UsageError("min-metric must be a number, not nan")
        if self.confidence is not None:
            self._check_promise()
        if self.quiet and self.verbose:
            raise UsageError("quiet and verbose contradict each other: give one of them")

    def _check_promise(self) -> None:
        if self.max_drop is None:
            raise UsageError("confidence is of a limit: give max-drop too, for example 1")
        if not (0 < self.confidence < 1):  # type: ignore[operator]
            raise UsageError(f"confidence must be above 0 and below 1, not {self.confidence:g}; 0.95 is usual")
        if self.max_drop <= 0:
            raise UsageError("no number of samples shows that nothing is lost: with confidence, give max-drop above 0")
        if not self.labels and (not self.has_samples or (isinstance(self.calib, str) and self.calib == "synthetic")):
            raise UsageError("a promise is made about samples like yours: with confidence, give calib or labels")

    def _check_ranges(self) -> None:
        if self.keep is not None:
            _in_range("keep", self.keep, 0, 1, above=True, hint="; 0.6 keeps 60% of the channels")
        for name in ("target_macs", "target_params", "target_latency"):
            value = getattr(self, name)
            if value is not None:
                _in_range(name.replace("_", "-"), value, 0, 1, above=True, hint="; 0.5 leaves half")
        if self.max_drop is not None:
            if self.metric is None:
                _in_range("max-drop", self.max_drop, 0, 100, hint="; 1 is one point of accuracy")
            elif not 0 <= self.max_drop < math.inf:
                raise UsageError(f"max-drop must be at least 0, in the units of metric, not {self.max_drop:g}")
        if isinstance(self.align, int) and self.align < 1:
            raise UsageError(f"align must be at least 1 channel, not {self.align}")
        _in_range("lambda", self.lambda_, 0, 1)
        _in_range("threshold", self.threshold, -1, 1)
        if self.min_cosine is not None:
            _in_range("min-cosine", self.min_cosine, -1, 1)
        if self.min_top1 is not None:
            _in_range("min-top1", self.min_top1, 0, 1, hint="; 0.98 lets 2% of the samples change class")
        for name in ("max_nsr", "max_kl"):
            value = getattr(self, name)
            if value is not None:
                _in_range(name.replace("_", "-"), value, 0, math.inf)
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, not {self.seed}")
        if self.calib_samples is not None and self.calib_samples < 1:
            raise UsageError(f"calib-samples must be at least 1 sample, not {self.calib_samples}")
        for value in self.mean or ():
            _in_range("mean", value, 0, 1, hint=": it is of pixels from 0 to 1")
        for value in self.std or ():
            _in_range("std", value, 0, 1, above=True, hint=": it is of pixels from 0 to 1")
        if self.memory_limit < 1:
            raise UsageError(f"memory-limit must be a positive size, such as 2GB, not {self.memory_limit}")
        if self.benchmark and min(self.benchmark) < 1:
            raise UsageError(f"benchmark must be batch sizes of at least 1, not {min(self.benchmark)}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        if self.check_n is not None and self.check_n < 1:
            raise UsageError(f"check-n must be at least 1 sample, not {self.check_n}")

    @property
    def amount(self) -> float:
        """The share that groups without one of their own keep; what nobody said is 1."""
        return 1.0 if self.keep is None else self.keep

    @property
    def sample_count(self) -> int:
        """Samples to calibrate on, at most, before there are mirror images."""
        return SAMPLES if self.calib_samples is None else self.calib_samples

    @property
    def checked(self) -> int:
        """Samples of the user's to compare outputs on, at most."""
        return CHECKED if self.check_n is None else self.check_n

    @property
    def made(self) -> int:
        """Made-up samples to compare outputs on, at most."""
        return MADE if self.check_n is None else self.check_n

    @property
    def fits(self) -> bool:
        """Whether layers are fitted to samples, if the model can be run on any."""
        return self.reconstructs and not (isinstance(self.calib, str) and self.calib == "none")

    @property
    def has_samples(self) -> bool:
        """Whether ``calib`` names samples."""
        return self.calib is not None and not (isinstance(self.calib, str) and self.calib in ("auto", "none"))

    @property
    def calib_file(self) -> Path | None:
        """The file or folder that ``calib`` names, if it is one."""
        if isinstance(self.calib, str):
            path, _, name = self.calib.rpartition(":")
            return Path(path) if name and path else None
        return Path(self.calib) if isinstance(self.calib, os.PathLike) else None

    @property
    def metric_file(self) -> Path | None:
        """The file that ``metric`` names, if it names one."""
        path, _, _ = self.metric.rpartition(":") if isinstance(self.metric, str) else ("", "", "")
        return Path(path) if path else None

    @property
    def fixed_files(self) -> tuple[Path, ...]:
        """The files that hold values of inputs."""
        values = (value for _, value in self.fix_input if isinstance(value, (str, os.PathLike)))
        return tuple(Path(value) for value in values if os.fspath(value).lower().endswith(".npy"))

    @property
    def says_how_much(self) -> bool:
        """Whether it was said how much may go."""
        return self.lossless or bool(self.keep_layer) or any(getattr(self, name) is not None for name in BUDGETS)

    def decided(self) -> tuple[Options, str]:
        """These options, and nothing; where nobody said how much may go, with what is safe, and what that is: what
        costs nothing, or, with samples of the user's, as much as loses `SAFE_DROP` points on them."""
        if self.says_how_much:
            return self, ""
        if self.labels is None and (
            not self.has_samples or (isinstance(self.calib, str) and self.calib == "synthetic")
        ):
            return replace(self, lossless=True), "lossless"
        return replace(self, max_drop=SAFE_DROP), f"max-drop {SAFE_DROP:g}"

    @property
    def loses(self) -> bool:
        """Whether channels are to go that carry something."""
        targets = (self.amount, self.target_macs, self.target_params, self.target_latency)
        ratios = [*(t for t in targets if t is not None), *(ratio for _, ratio in self.keep_layer)]
        return not self.lossless and (min(ratios) < 1.0 or self.max_drop is not None)

    @property
    def reconstructs(self) -> bool:
        """Whether layers are to be solved anew, on samples if there are any."""
        return self.loses and self.method in ("auto", "reconstruct")

    @property
    def asks_for_change(self) -> bool:
        """Whether a result in which no channel goes is a failure."""
        return self.lossless or self.loses

    @property
    def has_gate(self) -> bool:
        """Whether the user set a limit that the result may miss."""
        limits = (self.min_cosine, self.min_top1, self.max_nsr, self.max_kl, self.min_metric)
        return any(limit is not None for limit in limits)

    @property
    def accepts_bad(self) -> bool:
        """Whether a bad result is what was asked for; ``max_drop`` and ``min_metric`` say themselves how bad it may
        be."""
        return not self.gate or self.max_drop is not None or self.min_metric is not None


def _in_range(name: str, value: float, low: float, high: float, above: bool = False, hint: str = "") -> None:
    # In this form, nan is refused too.
    if not ((low < value if above else low <= value) and value <= high):
        limits = f"above {low} and at most {high}" if above else f"from {low} to {high}"
        raise UsageError(f"{name} must be {limits}, not {value:g}{hint}")
