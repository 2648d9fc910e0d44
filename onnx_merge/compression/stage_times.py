"""Measures the time of each stage of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from passes.interface.runner import Progress


class Stages:
    """Seconds by stage."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block as stage ``name``."""
        self._progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """All stages and the time since the beginning."""
        return {**self.seconds, "total": time.perf_counter() - self._start}
