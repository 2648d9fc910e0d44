"""Names the execution providers that models run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """The execution provider that models run on."""

    name: Literal["cpu", "cuda"]
    reason: str
    """Why this provider was chosen, for the report."""


CPU = ProviderChoice("cpu", "asked for")
