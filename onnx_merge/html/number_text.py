"""Formats numbers for pages: few digits, units, and a dash for what is unknown."""

from __future__ import annotations

NONE = "\N{EN DASH}"
"""Stands for a value that is not known."""
MINUS = "\N{MINUS SIGN}"
COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def count(value: float | None) -> str:
    """Three significant digits and a decimal prefix: ``12.3 M``."""
    return NONE if value is None else _with_prefix(value, COUNTS, "")


def byte_size(value: float | None) -> str:
    """Bytes, with a decimal prefix: ``1.20 MB``."""
    return NONE if value is None else _with_prefix(value, SIZES, "bytes")


def exact(value: int | None) -> str:
    """All digits, in groups of three."""
    return NONE if value is None else f"{value:,}"


def percent(value: float | None) -> str:
    """A share as percent, with two significant digits or more: ``3.1%``, ``0.042%``."""
    if value is None:
        return NONE
    hundredfold = 100 * value
    if hundredfold == 0 or abs(hundredfold) >= 10:
        return (
            f"{hundredfold:.0f}%" if hundredfold == round(hundredfold) or abs(hundredfold) >= 99.95 else _tenths(value)
        )
    return f"{hundredfold:.2g}%" if abs(hundredfold) >= 1e-4 else "<0.0001%"


def _tenths(value: float) -> str:
    return f"{100 * value:.1f}%"


def significant(value: float | None, digits: int = 3) -> str:
    """Significant digits, without an exponent where that is readable."""
    if value is None:
        return NONE
    text = f"{value:.{digits}g}"
    return text.replace("-", MINUS) if "e" not in text else text


def signed(value: float | None, decimals: int = 2) -> str:
    """With its sign: ``+0.50``."""
    return NONE if value is None else f"{value:+.{decimals}f}".replace("-", MINUS)


def milliseconds(value: float | None) -> str:
    """Three significant digits: ``1.23 ms``, ``0.045 ms``, ``340 ms``."""
    if value is None:
        return NONE
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f} ms"


def seconds(value: float | None) -> str:
    """A duration: ``0.42 s``, ``12 s``, ``3 min 20 s``."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plural(many: int, one: str) -> str:
    """A number with its noun: ``1 group``, ``5 groups``."""
    return f"{many:,} {one if many == 1 else f'{one}s'}"


def _with_prefix(value: float, units: tuple[tuple[float, str], ...], plain: str) -> str:
    for unit, name in units:
        if abs(value) >= 0.9995 * unit:
            scaled = value / unit
            return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {name}"
    return f"{value:.0f} {plain}".rstrip()
