"""Kinds of values that options have: how each is converted, and what `argparse` makes of it on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_merge.config import option_parsing as single
from onnx_merge.config import pair_parsing as lists


@dataclass(frozen=True, eq=False)
class ValueKind:
    """``convert`` takes the option's name, for messages, and a value from Python, TOML or the command line.

    ``arguments`` are those of `argparse.ArgumentParser.add_argument`; ``repeatable`` is for the documentation.
    """

    convert: Callable[[str, object], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = False


FLAG = ValueKind(single.to_flag, {"action": "store_true"})
"""True or false; one that is true by default is ``--no-NAME`` on the command line."""
NUMBER = ValueKind(single.to_number, {"type": float})
WHOLE = ValueKind(single.to_whole, {"type": int})
TEXT = ValueKind(single.to_text)
FILE = ValueKind(single.to_path)
CALIB = ValueKind(single.to_calib)
METRIC = ValueKind(single.to_metric)
NUMBERS = ValueKind(single.to_numbers)
BYTES = ValueKind(single.to_bytes)
BATCHES = ValueKind(single.to_batches, {"nargs": "?", "const": "auto"})
"""Batch sizes; ``auto`` stands for an option without a value."""
ALIGN = ValueKind(single.to_align)
PATTERNS = ValueKind(lists.to_patterns, {"action": "extend", "nargs": "+"}, repeatable=True)
LIBRARIES = ValueKind(lists.to_libraries, {"action": "append"}, repeatable=True)
RATIOS = ValueKind(lists.to_ratios, {"action": "append"}, repeatable=True)
SHAPES = ValueKind(lists.to_shapes, {"action": "append"}, repeatable=True)
FIXED_INPUTS = ValueKind(lists.to_fixed_inputs, {"action": "append"}, repeatable=True)
JSON_FILE = ValueKind(single.to_text, {"nargs": "?", "const": "-"})
"""The name of a file; ``-``, standard output, stands for an option without a value."""
