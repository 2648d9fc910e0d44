"""Values as people write them, on command lines, in files and in calls, to the types of `onnx_merge.config.options`."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from onnx_merge.errors import InputError, UsageError

CHOICES = {
    "method": ("auto", "merge", "prune", "reconstruct"),
    "select": ("auto", "l1", "l2", "gm", "reprune", "reprune-kernel"),
    "allocation": ("auto", "uniform"),
    "provider": ("auto", "cpu", "cuda"),
    "layout": ("auto", "nchw", "nhwc"),
}
CALIB_WORDS = ("auto", "synthetic", "none")
"""What ``calib`` may be besides a source of samples."""
METRICS = ("accuracy", "top5", "neg-cross-entropy", "psnr", "r2")
"""What ``metric`` may be besides a function."""
UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**k for k, p in enumerate("KMGT", 1)}}
UNITS |= {f"{p}IB": 1024**k for k, p in enumerate("KMGT", 1)}


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


def converted(values: Mapping[str, object], where: str = "") -> dict[str, Any]:
    """``values`` under the names of `Options`'s fields, in the fields' types.

    Raises
    ------
    UsageError: there is no option of that name, or the value is of the wrong kind.
    """
    result: dict[str, Any] = {}
    for given, value in values.items():
        name, label = given.replace("-", "_"), given.replace("_", "-").strip("-")
        if name in ("no_coupled", "no_gate", "no_provenance"):
            name, value = name.removeprefix("no_"), not _flag(f"{where}{label}", value)
        name = "lambda_" if name == "lambda" else name
        if name not in CONVERTERS:
            raise UsageError(f"{where}unknown option {given!r}{did_you_mean(label, OPTION_NAMES)}")
        if name in result:
            raise UsageError(f"{where}{label} is given twice")
        result[name] = CONVERTERS[name](f"{where}{label}", value)
    return result


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence about the unknown ``word``: a known one that looks like it, if there is one."""
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, not {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return float(value)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text, not {value!r}")
    return value


def _path(name: str, value: object) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise UsageError(f"{name} must be the name of a file, not {value!r}")
    return Path(value)


def _calib(name: str, value: object) -> object:
    """Words and ``module.py:function`` stay texts, other texts are paths; what is no text comes from Python."""
    if isinstance(value, (bool, Real, bytes)) or (isinstance(value, str) and not value):
        raise UsageError(f"{name} must be the name of a file, or samples, not {value!r}")
    if isinstance(value, str):
        return value if value in CALIB_WORDS or ".py:" in value.lower() else Path(value)
    return value


def _metric(name: str, value: object) -> object:
    """A name, ``module.py:function``, or a function."""
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


def _numbers(name: str, value: object) -> tuple[float, ...]:
    """From numbers, or a text of them with commas in between."""
    if isinstance(value, str):
        try:
            return tuple(float(number) for number in value.split(","))
        except ValueError:
            raise UsageError(f"{name} must be numbers, such as 0.485,0.456,0.406, not {value!r}") from None
    return tuple(_number(name, item) for item in _items(value))


def _bytes(name: str, value: object) -> int:
    """From a number of bytes, or a text with a unit."""
    if not isinstance(value, str):
        return _whole(name, value)
    size = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if size is None or size[2].upper() not in UNITS:
        raise UsageError(f"{name} must be a size, such as 2GB or 500MB, not {value!r}")
    return int(float(size[1]) * UNITS[size[2].upper()])


def _batches(name: str, value: object) -> tuple[int, ...] | None:
    """From a truth value (see `Options.benchmark`), numbers, or a text of them with commas in between.

    The text ``auto`` is True: the command line has it for an option without a value.
    """
    if isinstance(value, bool) or value == "auto":
        return () if value else None
    if isinstance(value, str):
        if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", value, re.ASCII):
            raise UsageError(f"{name} must be batch sizes, such as 1,8,32, not {value!r}")
        value = [int(number) for number in value.split(",")]
    sizes = dict.fromkeys(_whole(name, item) for item in _items(value))  # none of them twice
    if not sizes:
        raise UsageError(f"{name} must be true, false or batch sizes, such as 1,8,32, not an empty list")
    return tuple(sizes)


def _align(name: str, value: object) -> str | int:
    """``auto``, or a number of channels."""
    if isinstance(value, str) and (value == "auto" or value.isdecimal()):
        return value if value == "auto" else int(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} must be auto or a whole number of channels, not {value!r}")
    return int(value)


def _optional(convert: Callable[[str, object], Any]) -> Callable[[str, object], Any]:
    return lambda name, value: None if value is None else convert(name, value)


def _patterns(name: str, value: object) -> tuple[str, ...]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return tuple(_text(name, item) for item in items)


def _libraries(name: str, value: object) -> tuple[str, ...]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return tuple(_text(name, os.fspath(item) if isinstance(item, os.PathLike) else item) for item in items)


def _ratios(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """From a table, pairs, or texts REGEX=RATIO, which are split at the last ``=``."""
    pairs: list[tuple[object, object]] = []
    for item in value.items() if isinstance(value, Mapping) else _items(value):
        if isinstance(item, (list, tuple)) and len(item) == 2:
            pairs.append((item[0], item[1]))
            continue
        expression, _, ratio = _text(name, item).rpartition("=")
        try:
            pairs.append((expression, float(ratio)))
        except ValueError:
            expression = ""
        if not expression:
            raise UsageError(f"{name} must be REGEX=RATIO, such as layer1=0.5, not {item!r}")
    return tuple((_text(name, expression), _number(name, ratio)) for expression, ratio in pairs)


def _shapes(name: str, value: object) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """From a table, pairs, or texts NAME:1,3,224,224, which are split at the last ``:``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for item in value.items() if isinstance(value, Mapping) else _items(value):
        if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[1], (list, tuple)):
            shapes[_text(name, item[0])] = tuple(_whole(name, size) for size in item[1])
            continue
        tensor, _, sizes = _text(name, item).rpartition(":")
        try:
            shapes[tensor] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            tensor = ""
        if not tensor:
            raise UsageError(f"{name} must be NAME:SIZES, such as input:1,3,224,224, not {item!r}")
    return tuple(shapes.items())


def _fixed(name: str, value: object) -> tuple[tuple[str, object], ...]:
    """From a table, pairs, or texts NAME=VALUE, which are split at the first ``=``."""
    fixed: dict[str, object] = {}
    pairs = list(value.items()) if isinstance(value, Mapping) else _items(value)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and "=" not in value[0]:
        pairs = [value]
    for item in pairs:
        if isinstance(item, (list, tuple)) and len(item) == 2:
            tensor, given = _text(name, item[0]), item[1]
        else:
            tensor, _, given = _text(name, item).partition("=")
        if not tensor or given is None or (isinstance(given, (str, list, tuple)) and not given):
            raise UsageError(f"{name} must be NAME=VALUE, such as rate=16000, not {item!r}")
        if tensor in fixed:
            raise UsageError(f"{name} gives {tensor!r} twice")
        fixed[tensor] = given
    return tuple(fixed.items())


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


CONVERTERS: dict[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(("lossless", "coupled", "gate", "provenance", "unverified"), _flag),
    **dict.fromkeys(("dry_run", "force", "quiet", "verbose"), _flag),
    **dict.fromkeys(("lambda_", "threshold"), _number),
    **dict.fromkeys(("keep", "min_cosine", "min_top1", "max_nsr", "max_kl", "min_metric"), _optional(_number)),
    **dict.fromkeys(("target_macs", "target_params", "target_latency", "max_drop", "confidence"), _optional(_number)),
    "align": _optional(_align),
    "exclude_inputs": _patterns,
    **dict.fromkeys(("seed", "check_n", "calib_samples"), _whole),
    **dict.fromkeys(CHOICES, _text),
    **dict.fromkeys(("labels", "report"), _optional(_path)),
    **dict.fromkeys(("mean", "std"), _optional(_numbers)),
    "calib": _optional(_calib),
    "metric": _optional(_metric),
    "benchmark": _optional(_batches),
    "threads": _optional(_whole),
    "memory_limit": _bytes,
    "exclude": _patterns,
    "custom_ops": _libraries,
    "keep_layer": _ratios,
    "input_shape": _shapes,
    "fix_input": _fixed,
    "fix_shape": _shapes,
}
OPTION_NAMES = [name.strip("_").replace("_", "-") for name in CONVERTERS]
"""Long names, without the dashes in front."""
