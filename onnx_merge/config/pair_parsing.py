"""Converts lists and pairs: regular expressions, shares by name, shapes, and values of inputs.

The functions have the same interface as those in `onnx_merge.config.option_parsing`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from onnx_merge.config.option_parsing import to_list, to_number, to_text, to_whole
from onnx_merge.errors import UsageError


def to_patterns(name: str, value: object) -> tuple[str, ...]:
    """Return regular expressions from a list or a single one."""
    return tuple(to_text(name, item) for item in to_list(value))


def to_libraries(name: str, value: object) -> tuple[str, ...]:
    """Return names of files or packages from a list or a single one."""
    return tuple(to_text(name, os.fspath(item) if isinstance(item, os.PathLike) else item) for item in to_list(value))


def to_ratios(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """Return shares by pattern from a table, pairs, or texts REGEX=RATIO, which are split at the last ``=``."""
    pairs: list[tuple[object, object]] = []
    for item in value.items() if isinstance(value, Mapping) else to_list(value):
        if isinstance(item, (list, tuple)) and len(item) == 2:
            pairs.append((item[0], item[1]))
            continue
        expression, _, ratio = to_text(name, item).rpartition("=")
        try:
            pairs.append((expression, float(ratio)))
        except ValueError:
            expression = ""
        if not expression:
            raise UsageError(f"{name} must be REGEX=RATIO, such as layer1=0.5, not {item!r}")
    return tuple((to_text(name, expression), to_number(name, ratio)) for expression, ratio in pairs)


def to_shapes(name: str, value: object) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return shapes by name from a table, pairs, or texts NAME:1,3,224,224, which are split at the last ``:``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for item in value.items() if isinstance(value, Mapping) else to_list(value):
        if isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[1], (list, tuple)):
            shapes[to_text(name, item[0])] = tuple(to_whole(name, size) for size in item[1])
            continue
        tensor, _, sizes = to_text(name, item).rpartition(":")
        try:
            shapes[tensor] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            tensor = ""
        if not tensor:
            raise UsageError(f"{name} must be NAME:SIZES, such as input:1,3,224,224, not {item!r}")
    return tuple(shapes.items())


def to_fixed_inputs(name: str, value: object) -> tuple[tuple[str, object], ...]:
    """Return values by input name from a table, pairs, or texts NAME=VALUE, which are split at the first ``=``."""
    fixed: dict[str, object] = {}
    pairs = list(value.items()) if isinstance(value, Mapping) else to_list(value)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and "=" not in value[0]:
        pairs = [value]
    for item in pairs:
        if isinstance(item, (list, tuple)) and len(item) == 2:
            tensor, given = to_text(name, item[0]), item[1]
        else:
            tensor, _, given = to_text(name, item).partition("=")
        if not tensor or given is None or (isinstance(given, (str, list, tuple)) and not given):
            raise UsageError(f"{name} must be NAME=VALUE, such as rate=16000, not {item!r}")
        if tensor in fixed:
            raise UsageError(f"{name} gives {tensor!r} twice")
        fixed[tensor] = given
    return tuple(fixed.items())
