"""Puts the names of options into messages of `passes`, which name a setting by its field in backticks."""

from __future__ import annotations

import re

OPTION_NAMES = {
    "allocation": "--allocation",
    "blocks": "--align",
    "exclude": "--exclude",
    "exclude_inputs": "--exclude-inputs",
    "keep_layers": "--keep-layer",
    "memory": "--memory-limit",
}
"""Field of `passes.settings.compress.CompressSettings` or `passes.samples.calibration_samples.CalibrationSamples` ->
option that sets it."""


def with_option_names(message: str) -> str:
    """``message`` with the options in the place of the settings that it names."""
    return re.sub(r"`(\w+)`", lambda found: OPTION_NAMES.get(found[1], found[0]), message)
