"""All options of a compression, and checks of their values and combinations."""

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
"""Loss in points on the user's samples that is accepted if no option says how much to remove."""


# Fields are ordered by these classes from the last to the first. A model's metadata list options in that order.
@dataclass(frozen=True)
class Options(OutputOptions, CheckOptions, SampleOptions, RunOptions, ChannelOptions, AmountOptions):
    """All options. `Options.make` also converts values from command lines, files and callers.

    The meaning of each option is in its definition and in docs/reference.md.

    Raises
    ------
    UsageError: a value is out of range, or two options contradict each other.
    """

    @classmethod
    def make(cls, values: Mapping[str, object], where: str = "") -> Options:
        """Convert values to options. Names may contain ``-`` or ``_``. ``where``: start of error messages."""
        return cls(**converted(values, options_of(cls), where))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], overrides: Mapping[str, object] | None = None) -> Options:
        """Read options from a configuration file, whose keys are the long names of the command line. ``overrides`` win.

        Raises
        ------
        InputError: the file cannot be read.
        UsageError: it is not TOML, has an unknown key or a value of the wrong kind, or an error of `Options`.
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
        """Share of channels kept in groups without a share of their own; 1 if not set."""
        return 1.0 if self.keep is None else self.keep

    @property
    def fits(self) -> bool:
        """Whether layers are fitted to samples, provided that the model can be run on some."""
        return self.reconstructs and not self.forbids_samples

    @property
    def fits_made_up(self) -> bool:
        """Whether the samples that layers are fitted to are made up, if there are any."""
        given = self.has_samples and not self.asks_for_made_up_samples
        return not given and (self.labels is None or not self.selects_by_drop)

    @property
    def selects_by_drop(self) -> bool:
        """Whether the loss that is measured decides which result is chosen."""
        return self.max_drop is not None

    @property
    def fixed_files(self) -> tuple[Path, ...]:
        """Files that hold values of inputs."""
        values = (value for _, value in self.fix_input if isinstance(value, (str, os.PathLike)))
        return tuple(Path(value) for value in values if os.fspath(value).lower().endswith(".npy"))

    @property
    def says_how_much(self) -> bool:
        """Whether an option sets how much is removed."""
        return self.lossless or bool(self.keep_layer) or any(getattr(self, name) is not None for name in BUDGETS)

    def decided(self) -> tuple[Options, str]:
        """Return these options with a safe default for how much is removed, and the name of that default.

        If an option sets the amount already, the options are unchanged and the name is empty. With samples of the
        user's, the default is a loss of `SAFE_DROP` points on them; without, a lossless compression.
        """
        if self.says_how_much:
            return self, ""
        if self.labels is None and (not self.has_samples or self.asks_for_made_up_samples):
            return replace(self, lossless=True), "lossless"
        return replace(self, max_drop=SAFE_DROP), f"max-drop {SAFE_DROP:g}"

    @property
    def loses(self) -> bool:
        """Whether channels that contribute to the outputs are to be removed."""
        targets = (self.amount, self.target_macs, self.target_params, self.target_latency)
        ratios = [*(t for t in targets if t is not None), *(ratio for _, ratio in self.keep_layer)]
        return not self.lossless and (min(ratios) < 1.0 or self.max_drop is not None or self.plan is not None)

    @property
    def reconstructs(self) -> bool:
        """Whether the weights of layers are solved for again, on samples if there are any."""
        return self.loses and self.method in ("auto", "reconstruct")

    @property
    def asks_for_change(self) -> bool:
        """Whether a result in which no channel was removed is a failure."""
        return self.lossless or self.loses

    def accepts_bad(self, chosen: bool) -> bool:
        """Whether the options accept a result with a bad verdict. ``max_drop`` and ``min_metric`` set their own limit
        of how bad it may be, if ``max_drop`` is not the default that was ``chosen`` for the user (`decided`)."""
        return not self.gate or (self.max_drop is not None and not chosen) or self.min_metric is not None


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return the table in a configuration file.

    Raises
    ------
    InputError: the file cannot be read.
    UsageError: it is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error


OPTION_NAMES = tuple(option.name for option in options_of(Options))
"""Long names of the options, without the leading dashes."""
