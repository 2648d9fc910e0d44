"""Checks of options against each other: contradictions, missing companions, and invalid regular expressions."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from onnx_merge.config.amount_options import BUDGETS
from onnx_merge.config.limits import Limits
from onnx_merge.errors import UsageError

if TYPE_CHECKING:
    from onnx_merge.config.options import Options

SHARE = Limits(0, 1, above=True)
POINTS = Limits(0, 100, hint="; 1 is one point of accuracy")


def check_together(options: Options) -> None:
    """Refuse invalid combinations of options. Each value is already known to be in its range.

    Raises
    ------
    UsageError: the options do not fit together; the message is one line.
    """
    _check_names(options)
    _check_amount(options)
    _check_samples(options)
    if options.quiet and options.verbose:
        raise UsageError("quiet and verbose contradict each other: give one of them")


def _check_names(options: Options) -> None:
    for expression, ratio in options.keep_layer:
        SHARE.check(f"the share of keep-layer {expression!r}", ratio)
    for expression in (*options.exclude, *options.exclude_inputs, *(e for e, _ in options.keep_layer)):
        try:
            re.compile(expression)
        except re.error as error:
            raise UsageError(f"{expression!r} is not a regular expression: {error}") from error
    for option, shapes in (("input-shape", options.input_shape), ("fix-shape", options.fix_shape)):
        for name, shape in shapes:
            if not shape or min(shape) < 1:
                raise UsageError(f"{option} of {name!r} must be positive sizes, such as 1,3,224,224, not {shape}")
    if isinstance(options.align, str) and options.align != "auto":
        raise UsageError(f"align must be auto or a number of channels, not {options.align!r}")


def _check_amount(options: Options) -> None:
    if options.max_drop is not None:
        if options.metric is None:
            POINTS.check("max-drop", options.max_drop)
        elif not 0 <= options.max_drop < math.inf:
            raise UsageError(f"max-drop must be at least 0, in the units of metric, not {options.max_drop:g}")
    given = [name.replace("_", "-") for name in BUDGETS if getattr(options, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} both say how much goes: give one of them")
    if options.lossless and (given or options.keep_layer):
        other = given[0] if given else "keep-layer"
        raise UsageError(f"lossless removes what is free and nothing else: give either it or {other}")


def _check_samples(options: Options) -> None:
    if options.method == "reconstruct" and options.forbids_samples:
        raise UsageError("method reconstruct needs samples: leave out calib none, or ask for method merge")
    if options.max_drop is not None and not options.labels and options.forbids_samples:
        raise UsageError("max-drop is measured on samples: leave out calib none, or give labels")
    if options.min_metric is not None and options.metric is None:
        raise UsageError("min-metric is a limit on metric: give that too, such as accuracy or FILE.py:FUNCTION")
    if options.min_metric is not None and math.isnan(options.min_metric):
        raise UsageError("min-metric must be a number, not nan")
    if options.input_range is not None:
        _check_input_range(options, options.input_range)
    if options.confidence is not None:
        _check_promise(options, options.confidence)


def _check_input_range(options: Options, limits: tuple[float, ...]) -> None:
    if options.mean is not None or options.std is not None:
        raise UsageError("input-range and mean or std both say what pixels become: give one of them")
    if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] == limits[1]:
        raise UsageError(f"input-range must be the values of black and white, such as 0,255, not {list(limits)}")


def _check_promise(options: Options, confidence: float) -> None:
    if options.max_drop is None:
        raise UsageError("confidence is of a limit: give max-drop too, for example 1")
    if not (0 < confidence < 1):
        raise UsageError(f"confidence must be above 0 and below 1, not {confidence:g}; 0.95 is usual")
    if options.max_drop <= 0:
        raise UsageError("no number of samples shows that nothing is lost: with confidence, give max-drop above 0")
    if not options.labels and (not options.has_samples or options.asks_for_made_up_samples):
        raise UsageError("a promise is made about samples like yours: with confidence, give calib or labels")
