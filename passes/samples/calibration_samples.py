"""The samples that layers are fitted to, and what they may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passes.graph.model import Array
from passes.interface.engine import Engine
from passes.numerics.arrays import sample_count
from passes.samples.sample_need import MoreSamples
from passes.statistics.tensor_store import ScratchSpace


@dataclass(frozen=True)
class CalibrationSamples:
    """``feeds``: input name -> (N, ...); ``real``: whether they are real data and not made up; ``engine``: runs models;
    ``memory``: bytes that activations may take; ``more_samples``: functions that return more samples, each twice as
    many as the one before; ``scratch``: disk space for the activations that do not fit; ``on_device``: bytes of a
    device's own memory that activations may take there, 0 where they are in the host's; ``effort``: see
    `passes.settings.compress.EFFORTS`."""

    feeds: Mapping[str, Array]
    real: bool
    engine: Engine
    memory: int = 2 * 10**9
    more_samples: Sequence[MoreSamples] = ()
    scratch: ScratchSpace | None = None
    on_device: int = 0
    effort: str = "low"

    @property
    def count(self) -> int:
        """Number of samples N."""
        return sample_count(self.feeds)
