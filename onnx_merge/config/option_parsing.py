"""Converts values from command lines, files and Python calls to numbers, texts and paths.

Every function takes the option's name for messages, and the value. It raises `UsageError` if the value is of another
kind.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path

from onnx_merge.errors import UsageError

CALIB_WORDS = ("auto", "synthetic", "none")
"""Values of ``calib`` that are not a source of samples."""
METRICS = ("accuracy", "top5", "neg-cross-entropy", "psnr", "r2")
"""Values of ``metric`` that are not a function."""
UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**k for k, p in enumerate("KMGT", 1)}}
UNITS |= {f"{p}IB": 1024**k for k, p in enumerate("KMGT", 1)}


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about the unknown ``word``: a suggestion of a similar known word, or an empty
    text."""
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def to_flag(name: str, value: object) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, not {value!r}")
    return value


def to_number(name: str, value: object) -> float:
    """Return a real number; booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return float(value)


def to_whole(name: str, value: object) -> int:
    """Return an integer; booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def to_text(name: str, value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text, not {value!r}")
    return value


def to_path(name: str, value: object) -> Path:
    """Return the path of a file."""
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise UsageError(f"{name} must be the name of a file, not {value!r}")
    return Path(value)


def to_calib(name: str, value: object) -> object:
    """Return keywords and ``module.py:function`` as text, other texts as paths, and Python objects unchanged."""
    if isinstance(value, (bool, Real, bytes)) or (isinstance(value, str) and not value):
        raise UsageError(f"{name} must be the name of a file, or samples, not {value!r}")
    if isinstance(value, str):
        return value if value in CALIB_WORDS or ".py:" in value.lower() else Path(value)
    return value


def to_metric(name: str, value: object) -> object:
    """Return a name, ``module.py:function``, or a function."""
    if callable(value):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a function or a name, not {value!r}")
    path, _, function = value.rpartition(":")
    if value in METRICS or (path.lower().endswith(".py") and function.isidentifier()):
        return value
    if value.lower().endswith((".py", ".py:")):
        raise UsageError(f"{name} must name a function too: {value.rstrip(':')}:FUNCTION")
    hint = did_you_mean(value, METRICS)
    raise UsageError(f"{name} must be {', '.join(METRICS)} or FILE.py:FUNCTION, not {value!r}{hint}")


def to_numbers(name: str, value: object) -> tuple[float, ...]:
    """Return numbers from a list or an array of numbers, or a comma-separated text."""
    if isinstance(value, str):
        try:
            return tuple(float(number) for number in value.split(","))
        except ValueError:
            raise UsageError(f"{name} must be numbers, such as 0.485,0.456,0.406, not {value!r}") from None
    as_list = getattr(value, "tolist", None)  # of an array, without NumPy, which the command line is not to wait for
    return tuple(to_number(name, item) for item in to_list(as_list() if callable(as_list) else value))


def to_bytes(name: str, value: object) -> int:
    """Return a number of bytes from a number or a text with a unit."""
    if not isinstance(value, str):
        return to_whole(name, value)
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if size is None or size[2].upper() not in UNITS:
        raise UsageError(f"{name} must be a size, such as 2GB or 500MB, not {value!r}")
    return int(float(size[1]) * UNITS[size[2].upper()])


def to_batches(name: str, value: object) -> tuple[int, ...] | None:
    """Return batch sizes from a boolean (see `Options.benchmark`), numbers, or a comma-separated text.

    The text ``auto`` becomes True: the command line passes it for an option without a value.
    """
    if isinstance(value, bool) or value == "auto":
        return () if value else None
    if isinstance(value, str):
        if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", value, re.ASCII):
            raise UsageError(f"{name} must be batch sizes, such as 1,8,32, not {value!r}")
        value = [int(number) for number in value.split(",")]
    sizes = dict.fromkeys(to_whole(name, item) for item in to_list(value))  # without repetition
    if not sizes:
        raise UsageError(f"{name} must be true, false or batch sizes, such as 1,8,32, not an empty list")
    return tuple(sizes)


def to_align(name: str, value: object) -> str | int:
    """Return ``auto`` or a number of channels."""
    if isinstance(value, str) and (value == "auto" or value.isdecimal()):
        return value if value == "auto" else int(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be auto or a whole number of channels, not {value!r}")
    return int(value)


def to_list(value: object) -> list[object]:
    """Return a list or tuple as a list, and any other value as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
