"""Converts options to and from a model's metadata, which hold only values other than the default, and no folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np

from onnx_merge.config.definition import FROM_PYTHON
from onnx_merge.config.options import Options
from onnx_merge.errors import UsageError
from onnx_merge.io.base_name import base_name
from onnx_merge.io.hashes import sha256_of_arrays, sha256_of_files

UNRECORDED = frozenset(
    (
        *("report", "html", "html_samples", "save_plan", "dry_run", "force", "quiet", "verbose"),
        *("benchmark", "threads", "provenance", "gate"),
    )
)
"""Options of the machine and of the console output. The result does not depend on them. It does on the memory limit,
which decides how many samples are read, and how large images are."""
MODELS_NAMES = frozenset(("exclude", "exclude_inputs", "keep_layer", "input_shape", "fix_shape"))
"""Options whose texts name things in the model and may contain slashes."""
FILES = frozenset(("labels", "calib", "metric", "custom_ops"))
"""Options that name files, which may be in other places when a model is verified."""
GATES = frozenset(("min_cosine", "min_top1", "max_nsr", "max_kl", "min_metric"))
"""Options that set limits for refusal. A verification checks the measurements, not these limits."""


def recorded(options: Options) -> dict[str, object]:
    """Return options by their long names, as JSON types.

    Files are recorded by name without folder. Arrays, and files whose content becomes part of the model, are recorded
    by hash.
    """
    found: dict[str, object] = {}
    for field in fields(options):
        value, default = getattr(options, field.name), field.default
        if field.name in UNRECORDED or value is default or (default is MISSING and not value):
            continue
        if not isinstance(value, np.ndarray) and type(value) is type(default) and value == default:
            continue
        if field.name == "calib" and not isinstance(value, (str, os.PathLike)):
            value = FROM_PYTHON
        if field.name == "fix_input":
            value = tuple((name, _fixed(given)) for name, given in value)
        text = str if field.name in MODELS_NAMES else base_name
        found[field.name.strip("_").replace("_", "-")] = _plain(value, text)
    return found


def restored(record: Mapping[str, object], given: Mapping[str, object]) -> Options:
    """Return the options of ``record`` that determine the samples and the comparison; ``given`` options replace them.

    Raises
    ------
    UsageError: another version recorded an option that this one does not know, or a needed file is not ``given``.
    """
    given = {name: value for name, value in given.items() if _is_given(value)}
    left = FILES | GATES
    values = {name: value for name, value in record.items() if name.replace("-", "_") not in left}
    if record.get("calib") in ("synthetic", "none") and "calib" not in given:
        values["calib"] = record["calib"]
    fixed = {name: value for name, value in _pairs(values.pop("fix-input", [])) if not isinstance(value, Mapping)}
    now = dict(Options.make({"fix-input": given["fix_input"]}).fix_input) if "fix_input" in given else {}
    for name, value in _pairs(record.get("fix-input", [])):
        if isinstance(value, Mapping) and name not in now:
            raise UsageError(f"input {name!r} was fixed to what {value.get('file', 'an array')} held: give --fix-input")
    named = {name.replace("_", "-"): value for name, value in given.items() if name != "fix_input"}
    return Options.make({**values, "fix-input": {**fixed, **now}, **named}, "the options in the file: ")


def _is_given(value: object) -> bool:
    """Whether the value of an option says something; arrays have no truth value."""
    empty = isinstance(value, (str, tuple, list, dict)) and not value
    return value is not None and value is not False and not empty


def _pairs(value: object) -> list[tuple[str, object]]:
    return [(str(name), item) for name, item in value] if isinstance(value, list) else []


def _fixed(value: object) -> object:
    """Return the value of an input that became a constant; the hash of a file or an array."""
    if isinstance(value, np.ndarray):
        return {"sha256": sha256_of_arrays({"": value})}
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.lower().endswith(".npy")):
        return {"file": base_name(os.fspath(value)), "sha256": sha256_of_files([Path(value)])}
    return tuple(value) if isinstance(value, list) else value


def _plain(value: object, text: Callable[[str], str]) -> object:
    """Return ``value`` as JSON types; a placeholder for objects that exist only in Python."""
    if value is None or isinstance(value, (bool, int, float, Mapping)):
        return value if not isinstance(value, Mapping) or "sha256" in value else FROM_PYTHON
    if isinstance(value, str):
        return text(value)
    if isinstance(value, os.PathLike):
        return base_name(os.fspath(value))
    return [_plain(item, text) for item in value] if isinstance(value, tuple) else FROM_PYTHON
