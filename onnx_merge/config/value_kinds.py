"""Kinds of option values: how each is converted, and its arguments for `argparse`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_merge.config import option_parsing as single
from onnx_merge.config import pair_parsing as lists


@dataclass(frozen=True, eq=False)
class ValueKind:
    """``convert`` takes the option's name, for messages, and a value from Python, TOML or the command line.

    ``arguments`` are passed to `argparse.ArgumentParser.add_argument`. ``repeatable`` is used in the documentation.
    """

    convert: Callable[[str, object], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    repeatable: bool = False


FLAG = ValueKind(single.to_flag, {"action": "store_true"})
"""A boolean. If it is true by default, the command line has ``--no-NAME``."""
NUMBER = ValueKind(single.to_number, {"type": float})
WHOLE = ValueKind(single.to_whole, {"type": int})
TEXT = ValueKind(single.to_text)
FILE = ValueKind(single.to_path)
CALIB = ValueKind(single.to_calib)
METRIC = ValueKind(single.to_metric)
NUMBERS = ValueKind(single.to_numbers)
BYTES = ValueKind(single.to_bytes)
BATCHES = ValueKind(single.to_batches, {"nargs": "?", "const": "auto"})
"""Batch sizes. An option without a value means ``auto``."""
ALIGN = ValueKind(single.to_align)
PATTERNS = ValueKind(lists.to_patterns, {"action": "extend", "nargs": "+"}, repeatable=True)
LIBRARIES = ValueKind(lists.to_libraries, {"action": "append"}, repeatable=True)
RATIOS = ValueKind(lists.to_ratios, {"action": "append"}, repeatable=True)
SHAPES = ValueKind(lists.to_shapes, {"action": "append"}, repeatable=True)
FIXED_INPUTS = ValueKind(lists.to_fixed_inputs, {"action": "append"}, repeatable=True)
JSON_FILE = ValueKind(single.to_text, {"nargs": "?", "const": "-"})
"""Name of a file. An option without a value means ``-``, standard output."""
