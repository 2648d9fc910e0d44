"""Makes text from models and files safe to show: names in a model may hold codes that control a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control codes but for tab and newline, and codes that turn the direction of text or break lines."""


def plain(text: str) -> str:
    """``text`` with U+FFFD in the place of each control code."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
