"""Takes the folder off a path, as reports and metadata show it."""

from __future__ import annotations

import re


def base_name(path: str | None) -> str:
    """Return the last part of a path of any operating system, also of ``folder/module.py:function``. Empty for none."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] if path else ""
