"""States how a run can be repeated."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from onnx_merge.config.definition import FROM_PYTHON

LONGEST = 76
"""Length of a command in characters above which it gets a line for each option."""


def command(argv: Sequence[str]) -> str:
    """The command as it would be typed in a shell; ``""`` for a call from Python."""
    if not argv:
        return ""
    words = shlex.join(["onnx-merge", *argv])
    if len(words) <= LONGEST:
        return words
    lines = ["onnx-merge"]
    for word in argv:
        if word.startswith("-") and word != "-":
            lines.append(f"    {shlex.quote(word)}")
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines)


def call(options: Mapping[str, object], source: str, target: str) -> str:
    """The call from Python with options by their long names. ``source``, ``target``: names of files, may be empty."""
    arguments = [repr(source) if source else "model"]
    if target:
        arguments.append(repr(target))
    arguments += [f"{_keyword(name)}={_value(value)}" for name, value in options.items()]
    words = f"onnx_merge.optimize({', '.join(arguments)})"
    return (
        words if len(words) <= LONGEST else "onnx_merge.optimize(\n" + "".join(f"    {a},\n" for a in arguments) + ")"
    )


def _keyword(name: str) -> str:
    word = name.replace("-", "_")
    return "lambda_" if word == "lambda" else word


def _value(value: object) -> str:
    return "..." if value == FROM_PYTHON else repr(value)
