"""What a user can ask for: all options of a compression, checked one by one and together."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_merge.config.amount_options import AMOUNTS, BUDGETS, AmountOptions
from onnx_merge.config.channel_options import ChannelOptions
from onnx_merge.config.check_options import CheckOptions
from onnx_merge.config.definition import converted, options_of
from onnx_merge.config.option_checks import check_together
from onnx_merge.config.output_options import OutputOptions
from onnx_merge.config.run_options import RunOptions
from onnx_merge.config.sample_options import SampleOptions
from onnx_merge.errors import InputError, UsageError

SAFE_DROP = 1.0
"""Points that may be lost on the user's samples, where nobody says how much may go."""


# Fields have the order of these classes from the last to the first; a model's metadata list options in it.
@dataclass(frozen=True)
class Options(OutputOptions, CheckOptions, SampleOptions, RunOptions, ChannelOptions, AmountOptions):
    """All options; `Options.make` also converts what command lines, files and callers give. What each means is in its
    definition, and in docs/reference.md.

    Raises
    ------
    UsageError: a value is out of range, or two options contradict each other.
    """

    @classmethod
    def make(cls, values: Mapping[str, object], where: str = "") -> Options:
        """Options from values as people write them; names with ``-`` or ``_``. ``where`` begins error messages."""
        return cls(**converted(values, options_of(cls), where))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], overrides: Mapping[str, object] | None = None) -> Options:
        """Options from a configuration file, its keys being the long names of the command line; ``overrides`` win.

        Raises
        ------
        InputError: the file cannot be read.
        UsageError: it is not TOML, has an unknown key or a value of the wrong kind, or see `Options`.
        """
        chosen = converted(overrides or {}, options_of(cls))
        from_file = converted(read_toml(path), options_of(cls), f"{path}: ")
        if any(name in chosen for name in AMOUNTS):
            conflicting = {"lossless"} | {name for name in BUDGETS if any(other in chosen for other in BUDGETS)}
            if chosen.get("lossless"):
                conflicting = {*BUDGETS, "keep_layer"}
            from_file = {name: value for name, value in from_file.items() if name not in conflicting}
            if "max_drop" not in from_file and "max_drop" not in chosen:
                from_file.pop("confidence", None)
        return cls(**{**from_file, **chosen})

    def __post_init__(self) -> None:
        for option in options_of(type(self)):
            option.check(getattr(self, option.field))
        check_together(self)

    @property
    def amount(self) -> float:
        """The share that groups without one of their own keep; what nobody said is 1."""
        return 1.0 if self.keep is None else self.keep

    @property
    def fits(self) -> bool:
        """Whether layers are fitted to samples, if the model can be run on any."""
        return self.reconstructs and not self.forbids_samples

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
        if self.labels is None and (not self.has_samples or self.asks_for_made_up_samples):
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
    def accepts_bad(self) -> bool:
        """Whether a bad result is what was asked for; ``max_drop`` and ``min_metric`` say themselves how bad it may
        be."""
        return not self.gate or self.max_drop is not None or self.min_metric is not None


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """The table that a configuration file holds.

    Raises
    ------
    InputError: the file cannot be read.
    UsageError: it is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error


OPTION_NAMES = tuple(option.name for option in options_of(Options))
"""Long names, without the dashes in front."""
