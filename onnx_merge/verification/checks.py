"""Decides whether a measured quantity agrees with the stated one, within rounding and sampling error.

On the samples of the statement there is no sampling error: the measured value may differ by the rounding of another
provider, machine or conversion. On other samples, the interval of the measured value must reach the stated interval,
that is, the stated interval is enlarged by the sampling error of the new samples. A correct file is then refused about
once in two hundred times for each quantity. The divergence is checked on the same samples only, because a few samples
make up most of it and no interval of it is reliable. A value better than the stated one passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from onnx_merge.tuning.checks import VERIFICATION
from onnx_merge.verification.findings import Check

Table = Mapping[str, object]
LOSSES = ("nsr", "kl", "changed")
"""Quantities of an output that measure loss; lower is better."""
DROP = "accuracy drop"


def output_checks(stated: Table, found: Table, samples: int, same: bool) -> Iterator[Check]:
    """Yield the checks of one output. Tables are as in `onnx_merge.verification.statement.output_table`.

    ``samples``: number of samples of the statement. ``same``: whether ``found`` was measured on the same samples. If
    it was measured on others, quantities that these do not test are skipped.
    """
    name = str(stated.get("name"))
    if stated.get("constant"):
        if same:
            keeps = bool(found.get("constant"))
            why = None if keeps else f"{name} is not what the original's is, the same for every sample"
            yield Check("constant", name, keeps=keeps, reason=why)
        return
    if not same and not (stated.get("tested") and found.get("tested")):
        return
    for quantity in LOSSES:
        value, low, high = _three(stated, quantity)
        now, now_low, now_high = _three(found, quantity)
        if value is None or now is None or not (same or (high is not None and now_low is not None)):
            continue
        allowed = rounding_allowance(quantity, value, samples)
        if not same:
            allowed = reaching(quantity, max(allowed, high or 0.0), now, now_low)
        keeps = now <= allowed
        why = None if keeps else f"{quantity} of {name} is {now:.3g}, but at most {allowed:.3g} would be as stated"
        yield Check(quantity, name, value, low, high, now, now_low, now_high, allowed, keeps, why)


def relative_error_check(stated: float, found: float) -> Check:
    """Check the relative error, for outputs without a better measure, on the same samples."""
    allowed = stated * (1 + VERIFICATION.stated_rounding) + VERIFICATION.rounding
    keeps = found <= allowed
    why = None if keeps else f"the relative error is {found:.3g}, but at most {allowed:.3g} would be as stated"
    return Check("relative error", None, stated, None, None, found, None, None, allowed, keeps, why)


def accuracy_check(stated: Table, found: Table, same: bool) -> Check | None:
    """Check the drop of accuracy in points. Tables are as in `onnx_merge.verification.statement.accuracy_table`."""
    drops = [_difference(table) for table in (stated, found)]
    (value, low, high), (now, now_low, now_high) = (
        (drop, number(table, "drop_low"), number(table, "drop_high"))
        for drop, table in zip(drops, (stated, found), strict=True)
    )
    samples = number(stated, "samples")
    if value is None or now is None or not samples:
        return None
    allowed = value + 100 * max(1.0, VERIFICATION.flips * samples) / samples
    if not same:
        if high is None or now_low is None:
            return None
        allowed = max(allowed, high) + now - now_low
    keeps = now <= allowed
    why = None if keeps else f"accuracy drops by {now:.2f} points, but at most {allowed:.2f} would be as stated"
    return Check(DROP, None, value, low, high, now, now_low, now_high, allowed, keeps, why)


def promise_check(promise: Table, checks: Sequence[Check]) -> Check | None:
    """Check the promised upper bound of the loss, on any samples, using the check of the measure that it refers to.

    It fails if the interval of the measured loss lies above the bound.
    """
    limit, measure = number(promise, "max_drop"), promise.get("measure")
    quantity = {"accuracy": DROP, "agreement": "changed"}.get(str(measure), f"{measure} drop")
    found = next((check for check in checks if check.quantity == quantity), None)
    if limit is None or found is None or found.found is None:
        return None
    scale = 100 if quantity == "changed" else 1
    now, low, high = (None if v is None else scale * v for v in (found.found, found.found_low, found.found_high))
    assert now is not None
    allowed = max(limit, limit + now - (now if low is None else low))
    keeps = now <= allowed
    why = None if keeps else f"{now:.3g} is lost ({measure}), where {limit:g} at most was promised"
    return Check("promise", None, limit, None, None, now, low, high, allowed, keeps, why)


def rounding_allowance(quantity: str, stated: float, samples: int) -> float:
    """Return the largest value that rounding can produce from a ``stated`` one."""
    if quantity == "changed":
        flips = max(1.0, VERIFICATION.flips * samples) / max(samples, 1)
        return min(1.0, stated * (1 + VERIFICATION.stated_rounding) + flips)
    rounding = VERIFICATION.logit_rounding if quantity == "kl" else VERIFICATION.rounding
    amplitude = math.sqrt(stated) * (1 + VERIFICATION.stated_rounding) + rounding
    return amplitude**2


def reaching(quantity: str, limit: float, found: float, low: float | None) -> float:
    """Return the largest value like ``found`` whose interval, which begins at ``low``, contains ``limit``."""
    if low is None:
        return limit
    if quantity == "changed":
        return limit + found - low
    return limit * found / low if low > 0 else max(limit, found)


def _difference(table: Table) -> float | None:
    before, after = number(table, "before"), number(table, "after")
    return None if before is None or after is None else before - after


def _three(table: Table, quantity: str) -> tuple[float | None, float | None, float | None]:
    value, low, high = (number(table, key) for key in (quantity, f"{quantity}_low", f"{quantity}_high"))
    return value, low, high


def number(table: Table, key: str) -> float | None:
    """Return the number stored under a key, or None."""
    value = table.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
