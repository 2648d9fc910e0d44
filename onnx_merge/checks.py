"""Whether a quantity that was found is what is stated, within what rounding and chance explain.

On the samples of the statement, chance has no part: what is found may be off by what another provider, machine or
conversion rounds otherwise. On others, the interval of what is found must reach the stated one, both at 95%: the stated
interval is widened by the sampling error of the new samples. A file that keeps what it says is then refused about once in
two hundred times for each quantity. What is better than stated is no fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnx_merge.verification import Check

ROUNDING = 3e-4
"""Amplitude relative to the outputs' spread by which they may differ where nothing is wrong: a float32 network of a
hundred layers accumulates a few 1e-5, and Winograd's convolutions, which some providers use, ten times that."""
LOGITS = 1e-3
"""The same of the square root of a divergence: logits with a spread of several units, off by `ROUNDING` of it."""
DIGITS = 1e-3
"""Relative, of what is stated: it is rounded itself."""
FLIPS = 0.005
"""Share of the samples whose class may be decided by rounding; one sample may be at least."""
LOSSES = ("nsr", "kl", "changed")
"""Of an output, less is better."""


def output_checks(stated: Mapping[str, object], found: Mapping[str, object], samples: int, same: bool) -> Iterator[Check]:
    """The checks of one output; both are as in the report, with ``nsr``, ``nsr_low``, ``nsr_high`` and so on.
    ``samples`` are those of the statement, ``same`` ones or others."""
    name = str(stated["name"])
    for quantity in LOSSES:
        value, low, high = _three(stated, quantity)
        now, now_low, now_high = _three(found, quantity)
        if value is None or now is None:
            continue
        allowed = rounded(quantity, value, samples)
        if not same:
            allowed = widened(quantity, max(allowed, high or 0.0), now, now_low)
        keeps = now <= allowed
        why = None if keeps else f"{quantity} of {name} is {now:.3g}, at most {allowed:.3g} would be as stated"
        yield Check(quantity, name, value, low, high, now, now_low, now_high, allowed, keeps, why)


def rounded(quantity: str, stated: float, samples: int) -> float:
    """The largest value that rounding makes of a ``stated`` one."""
    if quantity == "changed":
        return min(1.0, stated * (1 + DIGITS) + max(1.0, FLIPS * samples) / max(samples, 1))
    amplitude = math.sqrt(stated) * (1 + DIGITS) + (LOGITS if quantity == "kl" else ROUNDING)
    return amplitude**2


def widened(quantity: str, limit: float, found: float, low: float | None) -> float:
    """The largest value like ``found`` whose interval, which begins at ``low``, reaches down to ``limit``."""
    if low is None or low <= 0:
        return limit if low is None else max(limit, found)
    return limit + found - low if quantity == "changed" else limit * found / low


def _three(table: Mapping[str, object], quantity: str) -> tuple[float | None, float | None, float | None]:
    value, low, high = (number(table, key) for key in (quantity, f"{quantity}_low", f"{quantity}_high"))
    return value, low, high


def number(table: Mapping[str, object], key: str) -> float | None:
    """The number under a key, if it is one."""
    value = table.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
